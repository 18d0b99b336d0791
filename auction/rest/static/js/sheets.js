// The dialogs: a new campaign, a new budget, an ending.
import { changeCampaign, createCampaign, estimateReach } from "./api.js";
import { el } from "./dom.js";
import { count, microsFromText, money, textFromMicros } from "./format.js";
import { codesOf, nameOf } from "./vocabulary.js";
import { word } from "./words.js";

const DAY_MS = 86_400_000;
const GOALS = ["fans", "plays", "profile_visits", "product_clicks", "live_visits", "orders", "kept_fans"];
const FIELD_OF_ERROR = {
  daily_budget_micros: "daily", total_budget_micros: "total", target_cost_micros: "target", name: "name", zone: "zone",
  creator_id: "creator", end_at_ms: "days", frequency_cap_per_day: "cap",
};

/** A modal dialog with a form; `submit(form)` may throw to keep it open with a message. Resolves to its result, or null. */
function openSheet({ title, content, submitText, busyText, submit, narrow = false, danger = false, testid }) {
  return new Promise((resolve) => {
    let result = null;
    const error = el("p", { class: "sheet-error", role: "alert", hidden: true, "data-testid": "sheet-error" });
    const go = el("button", { class: danger ? "button danger" : "button primary", type: "submit", text: submitText, "data-testid": "sheet-submit" });
    const form = el(
      "form", { class: "sheet", method: "dialog", novalidate: true },
      el("h2", { text: title, id: "sheet-title" }), ...content, error,
      el("div", { class: "sheet-foot" }, el("button", { class: "button", type: "button", text: word("cancel"), onClick: () => dialog.close() }), go),
    );
    const dialog = el("dialog", { class: narrow ? "narrow" : "", "aria-labelledby": "sheet-title", "data-testid": testid }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      form.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
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
  });
}

function mark(form, name) {
  const input = name && form.elements[name];
  if (!input) return;
  if (name === "creator") input.closest(".field").hidden = false;
  input.setAttribute("aria-invalid", "true");
  input.closest("details")?.setAttribute("open", "");
  input.focus();
}

function problem(text, input) {
  return Object.assign(new Error(text), { input });
}

function field(name, label, properties = {}, help = null) {
  const { tag = "input", ...rest } = properties;
  return el(
    "label", { class: "field", hidden: rest.hideField }, el("span", { text: label }),
    el(tag, { name, autocomplete: "off", "data-testid": `field-${name}`, ...rest, hideField: null }),
    help && el("span", { class: "field-help", text: help }),
  );
}

const chip = (name, value, text, type = "checkbox", why = null, checked = false) =>
  el("label", { class: "chip" }, el("input", { type, name, value, checked }), el("span", { text }, why && el("small", { text: why })));

const chosen = (form, name) => [...form.querySelectorAll(`[name="${name}"]:checked`)].map((input) => Number(input.value));

function amount(form, name) {
  const micros = microsFromText(form.elements[name].value);
  if (micros === null) throw problem(word("badAmount"), name);
  return micros;
}

function whole(form, name) {
  const text = form.elements[name].value.trim();
  if (text === "") return 0;
  if (!/^\d{1,9}$/.test(text)) throw problem(word("badNumber"), name);
  return Number(text);
}

const textsOf = (form, name) => form.elements[name].value.split(/[,，、]/).map((text) => text.trim()).filter(Boolean);

function creatorIds(form, name) {
  const ids = form.elements[name].value.split(/[\s,，、]+/).filter(Boolean);
  if (ids.some((id) => !/^[1-9]\d{0,19}$/.test(id))) throw problem(word("badNumber"), name);
  return ids;
}

function audienceOf(form) {
  const nodes = ["region", "age_band", "gender"]
    .map((dimension) => ({ attribute: { dimension, codes: chosen(form, dimension) } }))
    .filter((node) => node.attribute.codes.length);
  const interests = chosen(form, "interests");
  if (interests.length) nodes.push({ interests });
  for (const node of ["fans_of", "viewers_of", "live_visitors_of"]) {
    const ids = creatorIds(form, node);
    if (ids.length) nodes.push({ [node]: ids });
  }
  const tags = { keywords: textsOf(form, "keywords"), bgm: textsOf(form, "bgm"), visual_tags: textsOf(form, "visual_tags") };
  if (Object.values(tags).some((texts) => texts.length)) nodes.push({ content: tags });
  const laotie = ["friends_of_fans", "fans_of_similar_creators"].filter((half) => form.elements[half].checked).map((half) => ({ [half]: true }));
  if (laotie.length) nodes.push(laotie.length > 1 ? { any: laotie } : laotie[0]);
  return nodes.length > 1 ? { all: nodes } : nodes[0] ?? {};
}

function campaignOf(form, nowMs) {
  const mode = form.elements.mode.value;
  const videoId = form.elements.video.value.trim();
  if (!/^[1-9]\d{0,19}$/.test(videoId)) throw problem(word("badNumber"), "video");
  const daily = amount(form, "daily");
  const total = amount(form, "total");
  if (total < daily) throw problem(word("badTotal"), "total");
  const days = whole(form, "days");
  const creator = form.elements.creator.value.trim();
  return {
    name: form.elements.name.value.trim(), goal: form.elements.goal.value, bid_mode: mode,
    target_cost_micros: mode === "target_cost" ? amount(form, "target") : 0,
    daily_budget_micros: daily, total_budget_micros: total, zone: form.elements.zone.value.trim(),
    creatives: [{ creative_id: videoId, title: form.elements.title.value.trim(), category: Number(form.elements.category.value) }],
    targeting: audienceOf(form), include_fans: form.elements.fans.checked, frequency_cap_per_day: whole(form, "cap"),
    ...(days ? { start_at_ms: nowMs, end_at_ms: nowMs + days * DAY_MS } : {}),
    ...(creator ? { creator_id: creator } : {}),
  };
}

function chipGroup(legend, dimension, className = "chips") {
  return el("fieldset", {}, el("legend", { text: legend }), el("div", { class: className }, ...codesOf(dimension).map((code) => chip(dimension, code, nameOf(dimension, code)))));
}

/** A button that asks how many viewers the audience in the form holds. */
function reachPart() {
  const told = el("span", { class: "field-help", role: "status", "data-testid": "reach" });
  const ask = async (event) => {
    const form = event.target.closest("form");
    try {
      const creator = form.elements.creator.value.trim();
      const reach = await estimateReach({ targeting: audienceOf(form), include_fans: form.elements.fans.checked, ...(creator ? { creator_id: creator } : {}) });
      told.textContent = word("reach", { low: count(reach.low), high: count(reach.high) });
    } catch (refused) {
      told.textContent = refused.message || word("noAnswer");
    }
  };
  return el("div", { class: "field" }, el("button", { class: "button", type: "button", text: word("reachNow"), onClick: ask, "data-testid": "reach-now" }), told);
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

/** Ask for a new campaign and create it; resolves to it, or null. `nowMs` is the engine's time. */
export function openNewCampaign(nowMs) {
  const key = crypto.getRandomValues(new Uint8Array(16)).reduce((text, byte) => text + byte.toString(16).padStart(2, "0"), "");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "Asia/Shanghai";
  const budget = moneyPart();
  const goals = el("fieldset", {}, el("legend", { text: word("fGoal") }), el("div", { class: "goals" }, ...GOALS.map((goal) => chip("goal", goal, word(`goal_${goal}`), "radio", word(`why_${goal}`), goal === "fans"))));
  goals.addEventListener("change", (event) => budget.retitle(event.target.value));
  budget.node.addEventListener("change", (event) => {
    if (event.target.name === "mode") budget.target.hidden = event.target.value !== "target_cost";
  });
  const category = field("category", word("fCategory"), { tag: "select" });
  category.lastChild.append(el("option", { value: 0, text: word("unknown") }), ...codesOf("interests").map((code) => el("option", { value: code, text: nameOf("interests", code) })));
  const zones = el("datalist", { id: "zones" }, ...(Intl.supportedValuesOf?.("timeZone") ?? []).map((name) => el("option", { value: name })));
  const content = [
    field("name", word("fName"), { maxlength: 80, required: true }, word("fNameHelp")),
    goals,
    el("fieldset", {}, el("legend", { text: word("fVideo") }), el("div", { class: "pair" }, field("video", word("fVideoId"), { inputmode: "numeric", maxlength: 20 }), category), field("title", word("fVideoTitle"), { maxlength: 120 })),
    budget.node,
    el("fieldset", {}, el("legend", { text: word("fAudience") }), el("p", { class: "field-help", text: word("fAudienceHelp") })),
    chipGroup(word("gender"), "gender"), chipGroup(word("age_band"), "age_band"), chipGroup(word("interests"), "interests"), chipGroup(word("region"), "region", "chips regions"),
    field("keywords", word("fKeywords"), {}, word("fTagsHelp")), field("bgm", word("fBgm")), field("visual_tags", word("fVisual")),
    field("fans_of", word("fFansOf"), { inputmode: "numeric" }, word("fCreatorsHelp")), field("viewers_of", word("fViewersOf"), { inputmode: "numeric" }), field("live_visitors_of", word("fLiveOf"), { inputmode: "numeric" }),
    el("label", { class: "check" }, el("input", { type: "checkbox", name: "friends_of_fans" }), el("span", { text: word("fLaotie") })),
    el("label", { class: "check" }, el("input", { type: "checkbox", name: "fans_of_similar_creators" }), el("span", { text: word("fSimilar") })),
    el("label", { class: "check" }, el("input", { type: "checkbox", name: "fans" }), el("span", { text: word("fFans") })),
    reachPart(),
    el(
      "details", {}, el("summary", { text: word("fMore") }),
      el("div", { class: "pair" }, field("zone", word("fZone"), { value: zone, list: "zones" }, word("fZoneHelp")), field("days", word("fDays"), { inputmode: "numeric" }), field("cap", word("fCap"), { inputmode: "numeric" }), field("creator", word("fCreator"), { inputmode: "numeric", hideField: true })), zones,
    ),
  ];
  return openSheet({
    title: word("formTitle"), content, submitText: word("start"), busyText: word("starting"), testid: "new-campaign",
    submit: (form) => createCampaign(campaignOf(form, nowMs), key),
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
