// The dialogs: a new campaign, a new budget, an ending.
import { changeCampaign, createCampaign } from "./api.js";
import { audienceFields, targetingOf } from "./audience_form.js";
import { AudienceTold } from "./audience_told.js";
import { el } from "./dom.js";
import { amount, chip, choice, creatorId, field, ID, mark, problem, unmark, whole } from "./fields.js";
import { money, textFromMicros } from "./format.js";
import { codesOf, nameOf } from "./vocabulary.js";
import { word } from "./words.js";

const DAY_MS = 86_400_000;
const GOALS = ["fans", "plays", "profile_visits", "product_clicks", "live_visits", "orders", "kept_fans"];
const FIELD_OF_ERROR = {
  daily_budget_micros: "daily", total_budget_micros: "total", target_cost_micros: "target", name: "name", zone: "zone",
  creator_id: "creator", end_at_ms: "days", frequency_cap_per_day: "cap", high_tier_worth: "worth",
};

/**
 * A modal dialog with a form; `submit(form)` may throw to keep it open with a message, `opened(form)` is called when it stands.
 * `told` stands beside its buttons. Resolves to its result, or null.
 */
function openSheet({ title, content, submitText, busyText, submit, opened = null, told = null, narrow = false, danger = false, testid }) {
  return new Promise((resolve) => {
    let result = null;
    const error = el("p", { class: "sheet-error", role: "alert", hidden: true, "data-testid": "sheet-error" });
    const go = el("button", { class: danger ? "button danger" : "button primary", type: "submit", text: submitText, "data-testid": "sheet-submit" });
    const form = el(
      "form", { class: "sheet", method: "dialog", novalidate: true },
      el("h2", { text: title, id: "sheet-title" }), ...content, error,
      el("div", { class: "sheet-foot" }, told, el("button", { class: "button", type: "button", text: word("cancel"), onClick: () => dialog.close() }), go),
    );
    const dialog = el("dialog", { class: narrow ? "narrow" : "", "aria-labelledby": "sheet-title", "data-testid": testid }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      unmark(form);
      error.hidden = true;
      go.disabled = true;
      go.textContent = busyText ?? submitText;
      try {
        result = await submit(form);
        dialog.close();
      } catch (problem) {
        error.textContent = problem.message || word("noAnswer");
        error.hidden = false;
        mark(form, problem.input ?? FIELD_OF_ERROR[problem.field]);
        error.scrollIntoView({ block: "nearest" });
      } finally {
        go.disabled = false;
        go.textContent = submitText;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
    opened?.(form);
  });
}

/** Whose campaign it is: the token's creator, or whom an operator names; empty if not said yet. */
const ownerOf = (form, tokenCreatorId) => tokenCreatorId ?? creatorId(form, "creator");

function campaignOf(form, nowMs, tokenCreatorId) {
  const mode = form.elements.mode.value;
  const videoId = form.elements.video.value.trim();
  if (!ID.test(videoId)) throw problem(word("badNumber"), "video");
  const daily = amount(form, "daily");
  const total = amount(form, "total");
  if (total < daily) throw problem(word("badTotal"), "total");
  const days = whole(form, "days");
  const creator = creatorId(form, "creator");
  const goal = form.elements.goal.value;
  const worth = form.elements.worth.value.trim().replace(",", ".");
  if (worth && !/^\d{1,2}(\.\d{1,3})?$/.test(worth)) throw problem(word("badWorth"), "worth");
  return {
    name: form.elements.name.value.trim(), goal, bid_mode: mode,
    target_cost_micros: mode === "target_cost" ? amount(form, "target") : 0,
    daily_budget_micros: daily, total_budget_micros: total, zone: form.elements.zone.value.trim(),
    creatives: [{ creative_id: videoId, title: form.elements.title.value.trim(), category: Number(form.elements.category.value) }],
    targeting: targetingOf(form, ownerOf(form, tokenCreatorId)), include_fans: form.elements.fans.checked, frequency_cap_per_day: whole(form, "cap"),
    ...(days ? { start_at_ms: nowMs, end_at_ms: nowMs + days * DAY_MS } : {}),
    ...(creator ? { creator_id: creator } : {}), ...(goal === "kept_fans" && worth ? { high_tier_worth: Number(worth) } : {}),
  };
}

function moneyPart() {
  const target = field("target", word("fTarget", { one: word("one_fans") }), { inputmode: "decimal", value: "3.00" });
  const label = target.firstChild;
  return {
    target,
    retitle: (goal) => { label.textContent = word("fTarget", { one: word(`one_${goal}`) }); },
    node: el(
      "fieldset", {}, el("legend", { text: word("fMoney") }),
      el("div", { class: "pair" }, field("daily", word("fDaily"), { inputmode: "decimal", value: "300" }), field("total", word("fTotal"), { inputmode: "decimal", value: "3000" })),
      el("div", { class: "goals" }, chip("mode", "target_cost", word("modeTarget"), "radio", word("modeTargetWhy"), true), chip("mode", "automatic", word("modeAutomatic"), "radio", word("modeAutomaticWhy"))),
      target,
    ),
  };
}

/**
 * Ask for a new campaign and create it; resolves to it, or null. `nowMs` is the engine's time, `creatorId` whom the token
 * stands for (null: an operator), `list` the name of a list of viewers to begin with.
 */
export function openNewCampaign(nowMs, { creatorId: tokenCreatorId = null, list = "" } = {}) {
  const key = crypto.getRandomValues(new Uint8Array(16)).reduce((text, byte) => text + byte.toString(16).padStart(2, "0"), "");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "Asia/Shanghai";
  const budget = moneyPart();
  const goals = el("fieldset", {}, el("legend", { text: word("fGoal") }), el("div", { class: "goals" }, ...GOALS.map((goal) => chip("goal", goal, word(`goal_${goal}`), "radio", word(`why_${goal}`), goal === "fans"))));
  const worth = field("worth", word("fWorth"), { inputmode: "decimal", maxlength: 6, hideField: true }, word("fWorthHelp"));
  goals.addEventListener("change", (event) => {
    budget.retitle(event.target.value);
    worth.hidden = event.target.value !== "kept_fans";
  });
  budget.node.addEventListener("change", (event) => {
    if (event.target.name === "mode") budget.target.hidden = event.target.value !== "target_cost";
  });
  const category = choice("category", word("fCategory"), [[0, word("unknown")], ...codesOf("interests").map((code) => [code, nameOf("interests", code)])], 0);
  const told = new AudienceTold((form) => ownerOf(form, tokenCreatorId));
  const zones = el("datalist", { id: "zones" }, ...(Intl.supportedValuesOf?.("timeZone") ?? []).map((name) => el("option", { value: name })));
  const content = [
    field("creator", word("fCreator"), { inputmode: "numeric", hideField: tokenCreatorId !== null }),
    field("name", word("fName"), { maxlength: 80, required: true }, word("fNameHelp")),
    goals, worth,
    el("fieldset", {}, el("legend", { text: word("fVideo") }), el("div", { class: "pair" }, field("video", word("fVideoId"), { inputmode: "numeric", maxlength: 20 }), category), field("title", word("fVideoTitle"), { maxlength: 120 })),
    budget.node,
    ...audienceFields({ isOperator: tokenCreatorId === null, list, compared: told.compared }),
    el(
      "details", {}, el("summary", { text: word("fMore") }),
      el("div", { class: "pair" }, field("zone", word("fZone"), { value: zone, list: "zones" }, word("fZoneHelp")), field("days", word("fDays"), { inputmode: "numeric" }), field("cap", word("fCap"), { inputmode: "numeric" })), zones,
    ),
  ];
  return openSheet({
    title: word("formTitle"), content, submitText: word("start"), busyText: word("starting"), testid: "new-campaign",
    told: told.reach, opened: (form) => told.follow(form),
    submit: (form) => createCampaign(campaignOf(form, nowMs, tokenCreatorId), key),
  });
}

/** Ask for new amounts and save them; resolves to the answer of the change, or null. */
export function openBudget(campaign) {
  const isTarget = campaign.bid_mode === "target_cost";
  const one = word(`one_${campaign.goal}`);
  const content = [
    el("p", { class: "soft", text: word("budgetHelp") }),
    field("daily", word("fDaily"), { inputmode: "decimal", value: textFromMicros(campaign.daily_budget_micros) }),
    field("total", word("fTotal"), { inputmode: "decimal", value: textFromMicros(campaign.total_budget_micros) }),
    isTarget ? field("target", word("fTarget", { one }), { inputmode: "decimal", value: textFromMicros(campaign.target_cost_micros) }) : null,
  ].filter(Boolean);
  const submit = async (form) => {
    const daily = amount(form, "daily");
    const total = amount(form, "total");
    if (total < daily) throw problem(word("badTotal"), "total");
    const asked = { daily_budget_micros: daily, total_budget_micros: total, ...(isTarget ? { target_cost_micros: amount(form, "target") } : {}) };
    const answer = await changeCampaign(campaign.campaign_id, { version: campaign.version, ...asked });
    const inForce = { daily: money(answer.effective_daily_budget_micros, campaign.cur), total: money(answer.effective_total_budget_micros, campaign.cur) };
    const waits = answer.effective_daily_budget_micros > daily || answer.effective_total_budget_micros > total;
    return { campaign: answer.campaign, text: word(waits ? "budgetWaits" : "budgetSaved", inForce) };
  };
  return openSheet({ title: word("budgetTitle", { name: campaign.name }), content, submitText: word("save"), busyText: word("saving"), submit, narrow: true, testid: "budget" });
}

/** Ask whether a campaign may end; resolves to true, or null. */
export function confirmEnd(campaign) {
  return openSheet({
    title: word("endTitle", { name: campaign.name }), content: [el("p", { text: word("endText") })], submitText: word("endYes"),
    submit: async () => true, narrow: true, danger: true, testid: "confirm-end",
  });
}

/** Ask whether a list of viewers may be deleted; resolves to true, or null. */
export function confirmDelete(name) {
  return openSheet({
    title: word("audDeleteTitle", { name }), content: [el("p", { text: word("audDeleteText") })], submitText: word("audDelete"),
    submit: async () => true, narrow: true, danger: true, testid: "confirm-delete",
  });
}
