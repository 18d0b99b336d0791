// The part of the campaign form that says who should see it, and what it tells before the start: reach, overlap, saturation.
import { segments } from "./api.js";
import { el } from "./dom.js";
import { isTooSmall, chip, chips, choice, chosen, codeChips, creatorId, creatorIds, field, listNames, problem, textsOf } from "./fields.js";
import { word } from "./words.js";

const CREATOR_NODES = { fans_of: "fFansOf", viewers_of: "fViewersOf", live_visitors_of: "fLiveOf" };
const TIERS = { potential: "potential", active: "active", "high-value": "high_value", iron: "iron" };
const LAOTIE = { friends_of_fans: "fLaotie", fans_of_similar_creators: "fSimilar" };
const STAGES = ["gained", "activated", "retained", "silent", "lost"];
const MAX_TAGS = 16;
const MAX_TAG_CHARACTERS = 64;
const NOT_FANS_YET = "potential"; // all other tiers and stages hold people who follow the creator, or may

const group = (title, ...nodes) => el("fieldset", { class: "part" }, el("legend", { text: word(title) }), ...nodes);
const check = (name, text, checked = false) => el("label", { class: "check" }, el("input", { type: "checkbox", name, checked, "data-testid": `field-${name}` }), el("span", { text }));

/**
 * The fields of an audience. `isOperator`: tiers and stages may be of any creator's fans; a creator's are the own fans'.
 * `list`: the name of a list to begin with. `compared` is where the comparison of the creators is told.
 */
export function audienceFields({ isOperator, list, compared }) {
  const names = el("datalist", { id: "lists" });
  segments().then((found) => names.append(...found.filter((one) => !isTooSmall(one)).map((one) => el("option", { value: one.segment_id }))), () => {});
  const numbers = { inputmode: "numeric" };
  const ownFans = group(
    "fOwnFans", el("p", { class: "field-help", text: word("fTiersHelp") }),
    chips(word("fTiers"), "chips", ...Object.entries(TIERS).map(([tier, name]) => chip("tier", tier, word(`tier_${name}`)))),
    chips(word("fStages"), "chips", ...STAGES.map((stage) => chip("stage", stage, word(`stage_${stage}`)))),
    field("tiers_of", word("fTiersOf"), { inputmode: "numeric", maxlength: 20, hideField: !isOperator }, word("fTiersOfHelp")),
    check("fans", word("fFans")), ...Object.entries(LAOTIE).map(([name, label]) => check(name, word(label))),
  );
  includeFansWith(ownFans);
  return [
    el("fieldset", {}, el("legend", { class: "big", text: word("fAudience") }), el("p", { class: "field-help", text: word("fAudienceHelp") })),
    group("fWho", codeChips("gender"), codeChips("age_band"), codeChips("interests"), codeChips("region", "chips regions")),
    group("fCreators", el("p", { class: "field-help", text: word("fCreatorsHelp") }), el("div", { class: "pair" }, ...Object.entries(CREATOR_NODES).map(([name, label]) => field(name, word(label), numbers))), compared),
    group(
      "fContent", el("p", { class: "field-help", text: word("fTagsHelp") }),
      el("div", { class: "pair" }, field("keywords", word("fKeywords")), field("bgm", word("fBgm")), field("visual_tags", word("fVisual")), choice("how_much", word("fHowMuch"), [20, 50, 80].map((least) => [least, word(`like_${least}`)]), 50)),
    ),
    ownFans,
    group("fListsPart", el("p", { class: "field-help", text: word("fListsHelp") }), el("div", { class: "pair" }, field("lists", word("fLists"), { list: "lists", value: list }), field("not_lists", word("fNotLists"), { list: "lists" })), names),
  ];
}

/** Tiers and stages of the own fans reach nobody without them: choosing one ticks that, and choosing none any more unticks it. */
function includeFansWith(part) {
  let isTickedHere = false;
  part.addEventListener("change", ({ target }) => {
    if (target.name === "fans") isTickedHere = false;
    if (!["tier", "stage"].includes(target.name)) return;
    const { elements } = target.form;
    const means = [...chosen(target.form, "tier"), ...chosen(target.form, "stage")].some((value) => value !== NOT_FANS_YET);
    if (means && !elements.fans.checked && !elements.tiers_of.value.trim()) elements.fans.checked = isTickedHere = true;
    else if (!means && isTickedHere) elements.fans.checked = isTickedHere = false;
  });
}

const anyOf = (nodes) => (nodes.length > 1 ? [{ any: nodes }] : nodes);
const segmentNodes = (names) => names.map((segment) => ({ segment }));

/** The named creators of the form, by kind of audience; kinds without any are left out. */
export function namedCreators(form) {
  return Object.fromEntries(Object.keys(CREATOR_NODES).map((name) => [name, creatorIds(form, name)]).filter(([, ids]) => ids.length));
}

function contentOf(form) {
  const tags = { keywords: textsOf(form, "keywords"), bgm: textsOf(form, "bgm"), visual_tags: textsOf(form, "visual_tags") };
  const all = Object.values(tags).flat();
  const wrong = Object.keys(tags).find((name) => tags[name].some((text) => text.length > MAX_TAG_CHARACTERS));
  if (wrong || all.length > MAX_TAGS) throw problem(word("badTags"), wrong ?? "keywords");
  return all.length ? [{ content: { ...tags, min_weight_percent: Number(form.elements.how_much.value) } }] : [];
}

function tiersOf(form, ownId) {
  const names = [...chosen(form, "tier").map((tier) => `tier:${tier}`), ...chosen(form, "stage").map((stage) => `stage:${stage}`)];
  if (!names.length) return [];
  const whose = creatorId(form, "tiers_of") || ownId;
  if (!whose) throw problem(word("badTiersOf"), "tiers_of");
  const nodesOf = (kind) => anyOf(segmentNodes(names.filter((name) => name.startsWith(kind)).map((name) => `${name}:${whose}`)));
  return [...nodesOf("tier:"), ...nodesOf("stage:")];
}

/** The audience that the form says, as the API has it. `ownId`: the creator whose campaign it is; empty if not known. */
export function targetingOf(form, ownId) {
  const nodes = ["region", "age_band", "gender"]
    .map((dimension) => ({ attribute: { dimension, codes: chosen(form, dimension).map(Number) } }))
    .filter((node) => node.attribute.codes.length);
  const interests = chosen(form, "interests").map(Number);
  if (interests.length) nodes.push({ interests });
  for (const [name, ids] of Object.entries(namedCreators(form))) nodes.push({ [name]: ids });
  nodes.push(...contentOf(form), ...tiersOf(form, ownId), ...anyOf(segmentNodes(listNames(form, "lists"))));
  const [never] = anyOf(segmentNodes(listNames(form, "not_lists")));
  if (never) nodes.push({ none: never });
  nodes.push(...anyOf(Object.keys(LAOTIE).filter((name) => form.elements[name].checked).map((name) => ({ [name]: true }))));
  return nodes.length > 1 ? { all: nodes } : nodes[0] ?? {};
}
