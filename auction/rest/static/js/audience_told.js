// What is told of an audience while its form is filled in: how many it reaches, what audiences of creators share.
import { compareCreators, estimateReach } from "./api.js";
import { namedCreators, targetingOf } from "./audience_form.js";
import { creatorId } from "./fields.js";
import { el, setData } from "./dom.js";
import { count } from "./format.js";
import { language, word } from "./words.js";

const PAUSE_MS = 350; // after the last key, before the engine is asked
const WORN_SHARE = 0.5; // of an audience that saw an ad already, from which on it is called worn
const MAX_PAIRS = 8;

const middle = ({ low, high }) => (low ? (low + high) / 2 : 0); // the lowest range holds nobody, too
const range = ({ low, high }) => (low ? `${count(low)}–${count(high)}` : word("fewerThan", { n: count(high) }));
const share = (part, all) => new Intl.NumberFormat(language(), { style: "percent", maximumFractionDigits: 0 }).format(middle(all) ? Math.min(1, middle(part) / middle(all)) : 0);

/** Follows a form and tells of its audience. `ownId(form)`: whose campaign it is. */
export class AudienceTold {
  constructor(ownId) {
    this.ownId = ownId;
    this.reach = el("p", { class: "reach", role: "status", "data-testid": "reach" });
    this.compared = el("div", { class: "compared", role: "status", "data-testid": "compared", hidden: true });
    this.asked = {}; // the last question of each kind, as text
    this.timer = 0;
  }

  /** Ask now, and again after every change. */
  follow(form) {
    const later = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.ask(form), PAUSE_MS);
    };
    form.addEventListener("input", later);
    form.addEventListener("change", later);
    this.ask(form);
  }

  ask(form) {
    if (!form.isConnected) return;
    this.about("reach", this.reach, () => {
      const own = this.ownId(form);
      return { targeting: targetingOf(form, own), include_fans: form.elements.fans.checked, ...asking(form) };
    }, (question) => estimateReach(question).then((found) => this.showReach(found)));
    this.about("creators", this.compared, () => ({ named: namedCreators(form), ...asking(form) }), async ({ named, ...who }) => {
      const kinds = Object.entries(named);
      const found = await Promise.all(kinds.map(([audience, creator_ids]) => compareCreators({ audience, creator_ids, ...who })));
      return () => {
        this.compared.replaceChildren(...kinds.map(([audience], i) => comparison(audience, found[i])));
        this.compared.hidden = !kinds.length;
      };
    });
  }

  /** Ask a question that differs from the last of its kind; only the latest answer is shown. */
  async about(kind, node, question, answer) {
    let text = "";
    try {
      const asked = question();
      text = JSON.stringify(asked);
      if (this.asked[kind] === text) return;
      this.asked[kind] = text;
      node.setAttribute("aria-busy", "true");
      const show = await answer(asked);
      if (this.asked[kind] === text) show();
    } catch (refused) {
      if (text && this.asked[kind] !== text) return;
      this.asked[kind] = text;
      node.classList.add("wrong");
      node.hidden = false;
      node.textContent = refused.message || word("noAnswer");
      node.setAttribute("aria-busy", "false");
      return;
    }
    if (this.asked[kind] !== text) return;
    node.classList.remove("wrong");
    node.setAttribute("aria-busy", "false");
  }

  showReach({ low, high }) {
    return () => {
      setData(this.reach, { low, high });
      this.reach.textContent = word(low ? "reach" : "reachFew", { low: count(low), high: count(high) });
    };
  }
}

function asking(form) {
  const id = creatorId(form, "creator");
  return id ? { creator_id: id } : {};
}

/** One kind of audience of several creators: a table, what they share, and how much of it is reached already. */
function comparison(audience, { creators, shared, together }) {
  const title = el("h4", { text: word(`cmpTitle_${audience}`) });
  if (!together.viewers.low) return el("section", { "data-testid": `compared-${audience}` }, title, el("p", { class: "field-help", text: word("cmpNobody", { n: count(together.viewers.high) }) }));
  const columns = ["cmpViewers", "cmpOnly", "cmpReached", "cmpOwn"].map((name) => word(name));
  const row = (name, one, only) => el("tr", {}, el("th", { text: name, scope: "row" }), ...[range(one.viewers), only, range(one.reached), range(one.own_fans)].map((text, i) => el("td", { text, "data-label": columns[i] })));
  const head = [word("cmpCreator"), ...columns].map((text) => el("th", { text, scope: "col" }));
  const rows = creators.map((one) => row(one.creator_id, one, range(one.only_here)));
  if (creators.length > 1) rows.push(row(word("cmpTogether"), together, ""));
  const isWorn = Math.max(middle(together.reached), middle(together.own_fans)) >= WORN_SHARE * middle(together.viewers);
  return el(
    "section", { "data-testid": `compared-${audience}` }, title,
    el("div", { class: "table-frame" }, el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))),
    ...sharedLines(creators, shared),
    el("p", { class: isWorn ? "small worn" : "small", "data-testid": "saturation", text: word(isWorn ? "cmpWorn" : "cmpFresh", { percent: share(together.reached, together.viewers), own: share(together.own_fans, together.viewers) }) }),
  );
}

function sharedLines(creators, shared) {
  if (creators.length < 2) return [];
  const viewers = new Map(creators.map((one) => [one.creator_id, one.viewers]));
  const pairs = shared.filter((pair) => pair.viewers.low).sort((one, other) => middle(other.viewers) - middle(one.viewers)).slice(0, MAX_PAIRS);
  const line = ({ creator_ids: [a, b], viewers: both }) => word("cmpShared", { a, b, n: range(both), percentA: share(both, viewers.get(a)), percentB: share(both, viewers.get(b)) });
  return (pairs.length ? pairs.map(line) : [word("cmpApart", { n: count(shared[0].viewers.high) })]).map((text) => el("p", { class: "small", "data-testid": "shared", text }));
}
