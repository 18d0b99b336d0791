// The page about a creator's fans: growth, engagement, mix, who left, where that stands among peers.
import { healthFileOf, healthOf, someCreators, token } from "./api.js";
import { el } from "./dom.js";
import { count, percent } from "./format.js";
import { Bars, Line } from "./health_charts.js";
import { askForToken, paintBar, say, wireBar } from "./page.js";
import { language, word } from "./words.js";

const OWN = "self";
const FILE_MS = 9_000;
const MOST_PICKED = 24;

const main = document.getElementById("main");
const desk = { creator: new URLSearchParams(location.search).get("creator") ?? OWN, period: "week", end: "", report: null, charts: [] };

const signed = (n, digits = 0) => new Intl.NumberFormat(language(), { signDisplay: "exceptZero", maximumFractionDigits: digits }).format(n);
const decimal = (n) => new Intl.NumberFormat(language(), { maximumFractionDigits: Math.abs(n) < 10 ? 2 : 1 }).format(n);
const date = (atMs) => new Intl.DateTimeFormat(language(), { timeZone: "UTC", year: "numeric", month: "short", day: "numeric" }).format(atMs);

const query = () => new URLSearchParams({ period: desk.period, ...(desk.end ? { end: desk.end } : {}) });

function leave() {
  desk.charts.forEach((chart) => chart.destroy());
  desk.charts = [];
}

function showWelcome() {
  leave();
  askForToken(main, { title: word("healthTitle"), submitText: word("show"), start: load });
}

/** Why there is no report, in the reader's language where it is one of the usual reasons. */
function reasonOf(error) {
  if (error.status === 404) return word("hNoService");
  if (error.status === 403) return word("hOwnOnly");
  return error.message || word("noAnswer");
}

/** Asks for the report; what is wrong with the question is said above the form that asks again. */
async function load() {
  paintBar();
  say("");
  leave();
  main.replaceChildren(el("p", { class: "blank soft", role: "status", text: word("healthLoading") }));
  try {
    desk.report = await healthOf(desk.creator, query());
    paint();
  } catch (error) {
    desk.report = null;
    if (error.status === 401) {
      token.clear();
      paintBar();
      say(word("tokenRefused"), "bad");
      showWelcome();
      return;
    }
    if (error.field === "creator_id" && desk.creator === OWN) {
      askForCreator();
      return;
    }
    say(word("healthFailed", { why: reasonOf(error) }), "bad");
    main.replaceChildren(el("div", { class: "report", "data-testid": "no-report" }, asked()));
  }
}

/** Who reads with an operator's token says whose fans are meant. */
function askForCreator() {
  const some = el("div", { class: "pick" });
  main.replaceChildren(el(
    "div", { class: "report", "data-testid": "pick-creator" },
    el("section", { class: "card" }, el("h1", { text: word("healthPage") }), el("p", { class: "soft", text: word("hWhichCreator") }), asked(), some),
  ));
  main.querySelector("[data-testid=field-creator]").focus();
  someCreators().then((ids) => {
    const button = (id) => el("button", { class: "button", type: "button", text: id, "data-testid": `pick-${id}`, onClick: () => { desk.creator = id; load(); } });
    some.append(...ids.slice(0, MOST_PICKED).map(button));
  }, () => {});
}

function asked() {
  const creator = el("input", { type: "text", inputmode: "numeric", value: desk.creator === OWN ? "" : desk.creator, placeholder: word("hOwn"), "data-testid": "field-creator" });
  const end = el("input", { type: "date", value: desk.end, "data-testid": "field-end" });
  const periods = ["week", "month"].map((period) => el("button", {
    type: "button", text: word(period), "aria-pressed": String(period === desk.period), "data-testid": `period-${period}`,
    onClick: () => { desk.period = period; load(); },
  }));
  const form = el(
    "form", { class: "asked" },
    el("div", { class: "choice", role: "group" }, ...periods),
    el("label", { class: "field" }, el("span", { text: word("lastDay") }), end),
    el("label", { class: "field" }, el("span", { text: word("creatorNumber") }), creator),
    el("button", { class: "button", type: "submit", text: word("show"), "data-testid": "show" }),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    desk.creator = creator.value.trim() || OWN;
    desk.end = end.value;
    load();
  });
  return form;
}

function paint() {
  leave();
  const { report } = desk;
  const { period, before } = report;
  const growth = new Bars(report.by_day);
  const fans = new Line(report.by_day);
  desk.charts = [growth, fans];
  const when = { from: date(report.begin_at_ms), to: date(report.end_at_ms - 1), days: report.days };
  main.replaceChildren(el(
    "article", { class: "report", "data-testid": "report", "data-creator-id": report.creator_id, "data-days": report.days, "data-begin-at-ms": report.begin_at_ms },
    el("header", { class: "focus-head" }, el("div", {}, el("h1", { text: word("healthOf", { id: report.creator_id }) }), el("p", { class: "soft", text: word("healthPeriod", when) })), asked()),
    el(
      "div", { class: "tiles" },
      tile("fans", word("hFans"), count(period.fans_at_end), word("hChange", { change: signed(period.net), days: report.days }), period.fans_at_end),
      tile("gained", word("hGained"), count(period.gained), word("hBefore", { value: count(before.gained) }), period.gained),
      tile("lost", word("hLost"), count(period.lost), word("hBefore", { value: count(before.lost) }), period.lost),
      tile("active", word("hActive"), percent(period.active_fan_days, period.fan_days), `${word("hFanDays", { part: count(period.active_fan_days), whole: count(period.fan_days) })} · ${word("hBefore", { value: percent(before.active_fan_days, before.fan_days) })}`, period.active_share),
    ),
    el("div", { class: "truth" }, el("span"), el("button", { class: "text-button small", type: "button", text: word("healthCsv"), onClick: save, "data-testid": "health-csv" })),
    el("div", { class: "halves" }, card("chart-growth", word("hGrowth"), null, growth.node), card("chart-fans", word("hFansByDay"), null, fans.node)),
    el("div", { class: "halves" }, card("sources", word("hSources"), null, sourcesTable(period, before)), card("kept", word("hKept"), word("hKeptWhy"), keptTable(report.kept))),
    el("div", { class: "halves" }, card("tiers", word("hTiers"), word("hTiersWhy"), mixTable("tier", period.tiers, before.tiers)), card("stages", word("hStages"), word("hStagesWhy"), mixTable("stage", period.stages, before.stages))),
    el("div", { class: "halves" }, card("engagement", word("hEngagement"), word("hEngagementWhy"), kindsTable(period, before)), card("peers", word("hPeers"), peersText(report), peersScales(report.peers))),
    card("churn", word("hChurn"), churnText(report), el("ul", { class: "told" }, ...report.associations.map(told))),
  ));
  desk.charts.forEach((chart) => chart.draw());
}

const card = (id, title, why, ...parts) => el("section", { class: "card", "data-testid": id }, el("h2", { text: title }), why && el("p", { class: "small soft", text: why }), ...parts);

const tile = (id, name, value, note, data) => el(
  "section", { class: "card tile", "data-testid": `tile-${id}`, "data-value": data },
  el("h3", { class: "tile-name", text: name }), el("p", { class: "tile-value", text: value }), el("p", { class: "tile-note", text: note }),
);

function table(head, rows) {
  const cells = (tag, parts) => parts.map((part) => (part instanceof Node ? part : el(tag, { text: part })));
  return el("div", { class: "table-frame" }, el("table", {}, el("thead", {}, el("tr", {}, ...cells("th", head))), el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells("td", row))))));
}

function bar(share) {
  const fill = el("div", { class: "bar-fill" });
  fill.style.width = `${100 * Math.min(Math.max(share, 0), 1)}%`;
  return el("td", { class: "bar-cell" }, el("div", { class: "bar-track" }, fill));
}

function sourcesTable(period, before) {
  const earlier = new Map(before.sources.map((one) => [one.campaign_id, one]));
  const name = (id) => (id === null ? word("noCampaign") : word("campaignNo", { id }));
  return table([word("source"), word("hGained"), word("share"), el("th"), word("hLost"), word("hBefore", { value: word("hGained") })], period.sources.map((one) => [
    name(one.campaign_id), count(one.gained), percent(one.gained, period.gained), bar(period.gained ? one.gained / period.gained : 0), count(one.lost), count(earlier.get(one.campaign_id)?.gained ?? 0),
  ]));
}

function keptTable(kept) {
  const after = (days) => (days === 1 ? word("keptDay") : word("keptAfter", { days }));
  return table([word("hSince"), word("share"), el("th"), word("hFans")], kept.map((one) => [
    after(one.days), percent(one.kept, one.judged), bar(one.judged ? one.kept / one.judged : 0), one.judged ? word("keptOf", { kept: count(one.kept), judged: count(one.judged) }) : word("notJudged"),
  ]));
}

function mixTable(key, now, before) {
  const earlier = new Map(before.map((one) => [one[key], one]));
  const sum = (rows) => rows.reduce((all, one) => all + one.fans, 0);
  const isNew = sum(before) === 0; // there is nothing to have changed from
  return table([word(key === "tier" ? "hTiers" : "hStages"), word("hFans"), word("share"), el("th"), word("change")], now.map((one) => [
    word(`${key}_${one[key]}`), count(one.fans), percent(one.fans, sum(now)), bar(one.share), isNew ? "–" : word("points", { value: signed(100 * (one.share - earlier.get(one[key]).share), 1) }),
  ]));
}

function kindsTable(period, before) {
  const earlier = new Map(before.kinds.map((one) => [one.kind, one]));
  if (!period.kinds.length) return el("p", { class: "soft", text: word("hNothing") });
  const most = Math.max(...period.kinds.map((one) => one.per_100_fan_days), 0);
  return table([word("kind"), word("times"), word("per100"), el("th"), word("hBefore", { value: "" }).trim()], period.kinds.map((one) => [
    word(`kind_${one.kind}`), count(one.events), decimal(one.per_100_fan_days), bar(most ? one.per_100_fan_days / most : 0), decimal(earlier.get(one.kind)?.per_100_fan_days ?? 0),
  ]));
}

const peersText = ({ peers, smallest_cohort: smallest }) => (peers ? word("hPeersWhy", { n: count(peers.creators), least: count(peers.least_fans), most: count(peers.most_fans) }) : word("hNoPeers", { smallest }));

function peersScales(peers) {
  return el("div", { "data-testid": "scales" }, ...(peers?.figures ?? []).map((one) => {
    const mark = el("div", { class: "scale-mark" });
    mark.style.left = `${one.percentile}%`;
    const value = one.name === "active_share" ? percent(one.value, 1) : decimal(one.value);
    return el("div", { class: "scale" }, el("div", { class: "scale-head" }, el("span", { text: `${word(`peer_${one.name}`)}: ${value}` }), el("span", { class: "soft small", text: word("percentile", { percent: `${Math.round(one.percentile)}%` }) })), el("div", { class: "scale-track" }, mark));
  }));
}

const churnText = (report) => (report.associations.length
  ? word("hChurnWhy", { confidence: `${Math.round(100 * report.confidence)}%`, smallest: report.smallest_group })
  : word("hNoChurn", { smallest: report.smallest_group }));

function told(one) {
  const who = one.campaign_id === null ? word("newFans") : word("fansOfCampaign", { id: one.campaign_id });
  const values = { who, a: count(one.left), n: count(one.fans), b: count(one.others_left), m: count(one.others), ratio: one.ratio === null ? "" : decimal(one.ratio), low: decimal(one.ratio_low), high: decimal(one.ratio_high) };
  const name = one.is_clear ? (one.ratio === null ? "assocNone" : "assocClear") : "assocUnclear";
  return el("li", { class: one.is_clear ? "clear" : "", "data-testid": "association", text: word(name, values) });
}

async function save() {
  try {
    const address = URL.createObjectURL(await healthFileOf(desk.creator, query()));
    el("a", { href: address, download: `creator-${desk.report.creator_id}-${desk.period}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), FILE_MS);
  } catch (error) {
    say(word("healthFailed", { why: error.message || word("noAnswer") }), "bad");
  }
}

function repaint() {
  paintBar();
  if (!token.get()) showWelcome();
  else if (desk.report) paint();
  else load();
}

wireBar({
  repaint,
  signOut() {
    token.clear();
    desk.report = null;
    say("");
    repaint();
  },
});

token.takeFromAddress();
paintBar();
if (token.get()) load();
else showWelcome();
