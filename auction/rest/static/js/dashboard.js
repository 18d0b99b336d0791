// The page: sign in, list the campaigns, follow them live, show one.
import { allCampaigns, changeStatus, noGrants, statementOf, token, watch } from "./api.js";
import { el, setText } from "./dom.js";
import { clockTime, money } from "./format.js";
import { askForToken, paintBar, say, wireBar } from "./page.js";
import { meter, paintPill, Panel, pill, stateOf } from "./panel.js";
import { confirmEnd, openBudget, openNewCampaign } from "./sheets.js";
import { word } from "./words.js";

const MAX_WATCHED = 100;
const LIST_INTERVAL_MS = 2_000;
const PANEL_INTERVAL_MS = 1_000;
const EARLIER_HOURS = 26; // the whole first local day, so that its sums start at midnight
const FILE_MS = 9_000;
const GRANTS_INTERVAL_MS = 5_000;

const main = document.getElementById("main");
const desk = { campaigns: [], creatorId: null, reports: new Map(), entries: new Map(), chosenId: null, hours: 48, panel: null, watches: [], refusal: null, nowMs: null }; // nowMs: the engine's time, which may be virtual

function sayState(state) {
  const node = document.getElementById("link-state");
  node.hidden = state === null;
  if (state === null) return;
  node.className = state === "live" ? "link-state live" : "link-state";
  node.dataset.state = state;
  setText(node, word({ live: "stateLive", lost: "stateLost", connecting: "stateConnecting" }[state]));
}

/** Why budgets get no new money now, for as long as that is so. */
function paintGrants() {
  const node = document.getElementById("grants");
  node.hidden = !desk.refusal;
  if (desk.refusal) setText(node, word(`grants_${desk.refusal.reason}`, { time: clockTime(desk.refusal.until_ms) }));
}

async function watchGrants() {
  desk.refusal = await noGrants();
  paintGrants();
  setTimeout(watchGrants, GRANTS_INTERVAL_MS);
}

/** The bar, and what this page has in it besides. */
function paintTop() {
  paintGrants();
  paintBar();
}

function stopWatching() {
  desk.watches.forEach((open) => open.stop());
  desk.watches = [];
}

function leavePanel() {
  desk.panel?.destroy();
  desk.panel = null;
}

function signOut(reason = "") {
  stopWatching();
  leavePanel();
  token.clear();
  sayState(null);
  paintTop();
  say(reason, reason ? "bad" : "");
  showWelcome();
}

const showWelcome = () => askForToken(main, { title: word("welcome"), text: word("welcomeText"), submitText: word("open"), start });

async function start() {
  paintTop();
  stopWatching();
  leavePanel();
  main.replaceChildren(el("p", { class: "blank soft", role: "status", text: word("loading"), "data-testid": "loading" }));
  sayState("connecting");
  try {
    Object.assign(desk, await allCampaigns());
  } catch (error) {
    showFailure(error);
    return;
  }
  desk.reports.clear();
  const known = desk.campaigns.find((c) => c.campaign_id === desk.chosenId);
  const first = known ?? desk.campaigns.find((c) => c.status === "active") ?? desk.campaigns[0];
  desk.chosenId = first?.campaign_id ?? null;
  paintDesk();
  watchList();
  beginWithList();
}

/** An address such as /?list=NAME begins a campaign for that list of viewers, once. */
function beginWithList() {
  const list = new URLSearchParams(location.search).get("list");
  if (!list) return;
  history.replaceState(null, "", location.pathname);
  addCampaign(list);
}

function showFailure(error) {
  if ([401, 403].includes(error.status)) {
    signOut(word(error.status === 401 ? "tokenRefused" : "tokenOfOthers"));
    return;
  }
  sayState(null); // nothing is tried again by itself: the page offers it
  main.replaceChildren(el(
    "section", { class: "blank", role: "alert", "data-testid": "load-failed" },
    el("p", { text: word("failedLoad", { why: error.message || word("noAnswer") }) }),
    el("button", { class: "button primary", type: "button", text: word("again"), onClick: start }),
  ));
}

/** Draw everything again: after signing in, after a change, in another language. */
function paintDesk() {
  leavePanel();
  desk.entries.clear();
  const add = el("button", { class: "button primary", type: "button", text: `+ ${word("newCampaign")}`, onClick: () => addCampaign(), "data-testid": "new" });
  if (!desk.campaigns.length) {
    sayState(null);
    main.replaceChildren(el("section", { class: "blank", "data-testid": "no-campaigns" }, el("img", { src: "/static/mark.svg", alt: "", width: 64, height: 64 }), el("h1", { text: word("noneTitle") }), el("p", { class: "soft", text: word("noneText") }), add));
    return;
  }
  const watched = new Set(watchedIds());
  const list = el("ul", { class: "list", "data-testid": "campaign-list" }, ...desk.campaigns.map((campaign) => el("li", {}, entryOf(campaign, watched))));
  const side = el("nav", { class: "side", "aria-label": word("campaigns") }, el("div", { class: "side-head" }, el("h2", { text: word("campaigns") }), add), list);
  desk.focus = el("div", { class: "focus" });
  main.replaceChildren(el("div", { class: "desk" }, side, desk.focus));
  desk.reports.forEach(paintEntry);
  openPanel();
}

function entryOf(campaign, watched) {
  const bar = meter(word(campaign.status === "ended" ? "spendTotal" : "spendToday"));
  const foot = el("span", { text: watched.has(campaign.campaign_id) ? "…" : "–" });
  const state = pill(campaign.status);
  const node = el(
    "button", { class: "entry", type: "button", "data-testid": "campaign-entry", "data-campaign-id": campaign.campaign_id, "aria-current": String(campaign.campaign_id === desk.chosenId), onClick: () => choose(campaign.campaign_id) },
    el("span", { class: "entry-head" }, el("span", { class: "entry-name", text: campaign.name }), state),
    bar.node,
    el("span", { class: "entry-foot" }, el("span", { text: `${word(`goal_${campaign.goal}`)} · ${word("creator", { id: campaign.creator_id })}` }), foot),
  );
  desk.entries.set(campaign.campaign_id, { node, bar, foot, state, campaign });
  return node;
}

function paintEntry(report) {
  const entry = desk.entries.get(report.campaign_id);
  if (!entry) return;
  const { cur } = entry.campaign;
  desk.nowMs = report.at_ms;
  paintPill(entry.state, stateOf(entry.campaign, report.at_ms));
  const hasEnded = entry.campaign.status === "ended"; // its days are over: what counts is the whole
  const spent = hasEnded ? report.total.spend_micros : report.today.spend_micros;
  const budget = hasEnded ? report.total_budget_micros : report.daily_budget_micros;
  entry.bar.show(spent, budget, hasEnded ? null : report.today.planned_spend_micros);
  setText(entry.foot, word("ofBudget", { spent: money(spent, cur), budget: money(budget, cur, 0) }));
  entry.node.dataset.todayMicros = report.today.spend_micros;
  entry.node.dataset.ledgerSequence = report.ledger_sequence;
}

function choose(campaignId) {
  desk.chosenId = campaignId;
  desk.entries.forEach((entry, id) => entry.node.setAttribute("aria-current", String(id === campaignId)));
  openPanel();
  if (matchMedia("(max-width: 920px)").matches) desk.focus.scrollIntoView({ behavior: "smooth" });
}

function openPanel() {
  leavePanel();
  const campaign = desk.campaigns.find((c) => c.campaign_id === desk.chosenId);
  desk.panel = new Panel(campaign, desk.hours, {
    status: (verb) => act(campaign, verb),
    budget: () => editBudget(campaign),
    end: () => endCampaign(campaign),
    statement: () => saveStatement(campaign),
    range: (hours) => {
      desk.hours = hours;
      openPanel();
    },
  });
  desk.focus.replaceChildren(desk.panel.node);
  desk.watches.splice(1).forEach((open) => open.stop());
  desk.watches[1] = watch([campaign.campaign_id], { hours: desk.hours + EARLIER_HOURS, intervalMs: PANEL_INTERVAL_MS }, {
    report: (report) => desk.panel?.campaign.campaign_id === report.campaign_id && desk.panel.show(report),
    state: sayState,
    refused,
  });
}

/** The newest campaigns, as many as one watch takes; ended ones only where others leave room. */
function watchedIds() {
  const [ended, open] = [true, false].map((has) => desk.campaigns.filter((c) => (c.status === "ended") === has));
  return [...ended, ...open].slice(-MAX_WATCHED).map((c) => c.campaign_id);
}

function watchList() {
  desk.watches[0]?.stop();
  const ids = watchedIds();
  if (!ids.length) return;
  desk.watches[0] = watch(ids, { hours: 1, intervalMs: LIST_INTERVAL_MS }, {
    report: (report) => {
      desk.reports.set(report.campaign_id, report);
      paintEntry(report);
      noticeStatus(report);
    },
    state: () => {},
    refused,
  });
}

/** A campaign that somebody else paused, resumed or ended is drawn as it is now. */
function noticeStatus(report) {
  const campaign = desk.campaigns.find((c) => c.campaign_id === report.campaign_id);
  if (campaign && campaign.status !== report.status && !document.querySelector("dialog")) reload();
}

function refused(error) {
  if (error.status === 401) signOut(word("tokenRefused"));
  else say(word("failedAction", { why: error.message }), "bad");
}

async function reload() {
  try {
    Object.assign(desk, await allCampaigns());
    paintDesk();
    watchList();
  } catch (error) {
    refused(error);
  }
}

async function act(campaign, verb) {
  try {
    await changeStatus(campaign.campaign_id, verb);
    await reload();
    say(word({ pause: "paused_done", resume: "resumed_done", end: "ended_done" }[verb]), "good");
  } catch (error) {
    if (error.status === 409) await reload();
    say(word("failedAction", { why: error.message || word("noAnswer") }), "bad");
  }
}

async function endCampaign(campaign) {
  if (await confirmEnd(campaign)) await act(campaign, "end");
}

async function editBudget(campaign) {
  const answer = await openBudget(campaign);
  if (!answer) return;
  await reload();
  say(answer.text, "good");
}

/** Fetched with the token and handed over as a file: a plain link could not show the token. */
async function saveStatement(campaign) {
  try {
    const address = URL.createObjectURL(await statementOf(campaign.campaign_id));
    el("a", { href: address, download: `campaign-${campaign.campaign_id}-charges.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), FILE_MS);
  } catch (error) {
    refused(error);
  }
}

async function addCampaign(list = "") {
  const campaign = await openNewCampaign(desk.nowMs ?? Date.now(), { creatorId: desk.creatorId, list });
  if (!campaign) return;
  desk.chosenId = campaign.campaign_id;
  await reload();
  say(word("created_done", { name: campaign.name }), "good");
}

function repaint() {
  paintTop();
  if (!token.get()) showWelcome();
  else if (desk.focus || desk.campaigns.length) paintDesk();
  else start();
}

wireBar({ repaint, signOut: () => signOut() });

token.takeFromAddress();
paintTop();
watchGrants();
if (token.get()) start();
else showWelcome();
