// One campaign in full: heading, tiles, charts, table, settings.
import { Charts } from "./charts.js";
import { el, setData, setText } from "./dom.js";
import { count, eachMicros, instant, money, percent, perThousandMicros } from "./format.js";
import { nameOf } from "./vocabulary.js";
import { word } from "./words.js";

export const RANGES = [24, 48, 168];

/** Name of the state that a reader sees: a campaign that waits for its start is scheduled. */
export function stateOf(campaign, nowMs) {
  return campaign.status === "active" && campaign.start_at_ms > nowMs ? "scheduled" : campaign.status;
}

export function pill(status) {
  return paintPill(el("span", { class: "pill", "data-testid": "status" }), status);
}

export function paintPill(node, status) {
  node.dataset.status = status;
  setText(node, word(status));
  return node;
}

/** A bar of spend within a budget, with a mark where the plan would be. */
export function meter(label) {
  const fill = el("div", { class: "meter-fill" });
  const plan = el("div", { class: "meter-plan", hidden: true });
  const node = el("div", { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, fill, plan);
  return {
    node,
    show(spent, budget, planned = null) {
      const share = budget > 0 ? Math.min(100, (100 * spent) / budget) : 0;
      fill.style.width = `${share}%`;
      node.setAttribute("aria-valuenow", share.toFixed(0));
      plan.hidden = planned === null || planned <= 0;
      if (!plan.hidden) plan.style.left = `${Math.min(100, (100 * planned) / budget)}%`;
    },
  };
}

function tile(id, name, bar = null) {
  const value = el("p", { class: "tile-value", "data-testid": `${id}-value`, text: "–" });
  const note = el("p", { class: "tile-note" });
  const node = el("section", { class: "card tile", "data-testid": `tile-${id}` }, el("h3", { class: "tile-name", text: name }), value, bar?.node ?? null, note);
  return { node, value, note, bar };
}

export class Panel {
  constructor(campaign, hours, on) {
    this.campaign = campaign;
    this.hours = hours;
    this.report = null;
    const one = word(`one_${campaign.goal}`);
    this.tiles = {
      spend: tile("spend", word("spendToday"), meter(word("spendToday"))),
      total: tile("spend-total", word("spendTotal"), meter(word("spendTotal"))),
      cost: tile("cost", word("costPer", { one })),
      fans: tile("fans", word("fans")),
      impressions: tile("impressions", word("impressions")),
      clicks: tile("click-rate", word("clickRate")),
      plays: tile("plays", word("plays")),
      thousand: tile("per-thousand", word("perThousand")),
    };
    this.pill = pill(campaign.status);
    this.charts = new Charts(campaign);
    this.truth = el("p", { class: "small soft", "data-testid": "truth", text: word("loadingFigures") });
    this.table = el("div", { class: "table-frame", tabindex: 0 });
    this.tableCard = el("details", { class: "card" }, el("summary", { text: word("figuresTable") }), this.table);
    this.tableCard.addEventListener("toggle", () => this.report && this.fillTable());
    this.node = el(
      "article", { class: "focus", "data-testid": "campaign", "data-campaign-id": campaign.campaign_id, "aria-busy": "true" },
      this.heading(on),
      el("div", { class: "tiles" }, ...Object.values(this.tiles).map((t) => t.node)),
      el("div", { class: "truth" }, this.truth, el("button", { class: "text-button small", type: "button", text: word("statement"), title: word("statementWhy"), onClick: on.statement, "data-testid": "statement" })),
      el("div", { class: "charts-head" }, el("p", { class: "small soft", text: word("zoneNote", { zone: campaign.zone }) }), this.rangeChoice(on)),
      this.charts.node, this.tableCard, this.about(),
    );
  }

  heading(on) {
    const { campaign } = this;
    const button = (verb, act, extra = "") => el("button", { class: `button ${extra}`, type: "button", text: word(verb), onClick: act, "data-testid": `action-${verb}` });
    const actions = campaign.status === "ended" ? [] : [
      campaign.status === "active" ? button("pause", () => on.status("pause")) : button("resume", () => on.status("resume"), "primary"),
      button("editBudget", on.budget), button("end", on.end, "danger"),
    ];
    const mode = campaign.bid_mode === "target_cost" ? `${word("targetCost")} ${money(campaign.target_cost_micros, campaign.cur)}` : word("automatic");
    return el(
      "header", { class: "focus-head" },
      el("div", {}, el("h1", { text: campaign.name, "data-testid": "campaign-name" }), this.pill, el("p", { class: "soft", text: `${word(`goal_${campaign.goal}`)} · ${mode}` })),
      el("div", { class: "actions" }, ...actions),
    );
  }

  rangeChoice(on) {
    const buttons = RANGES.map((hours) => el("button", {
      type: "button", text: word(`hours${hours}`), "aria-pressed": String(hours === this.hours), "data-testid": `range-${hours}`, onClick: () => on.range(hours),
    }));
    return el("div", { class: "choice", role: "group" }, ...buttons);
  }

  /** Show a report of this campaign. */
  show(report) {
    this.report = report;
    this.node.setAttribute("aria-busy", "false");
    setData(this.node, { "ledger-sequence": report.ledger_sequence, "at-ms": report.at_ms });
    paintPill(this.pill, stateOf(this.campaign, report.at_ms));
    this.fillTiles(report);
    const over = report.over_delivered_micros > 0 ? ` ${word("overDelivered", { amount: money(report.over_delivered_micros, this.campaign.cur) })}` : "";
    const time = instant(report.at_ms, this.campaign.zone);
    const several = report.true_at.length > 0;
    setText(this.truth, (several ? word("trueAtAll", { rows: report.true_at.join(", "), time }) : word("trueAt", { row: count(Number(report.ledger_sequence)), time })) + over);
    this.charts.show(report, this.hours);
    if (this.tableCard.open) this.fillTable();
  }

  fillTiles({ total, today, daily_budget_micros: daily, total_budget_micros: whole }) {
    const { tiles, campaign } = this;
    const cash = (micros) => (micros === null ? "–" : money(micros, campaign.cur));
    const put = (t, value, note, data) => {
      setText(t.value, value);
      if (note !== null) setText(t.note, note);
      setData(t.node, { "ledger-sequence": this.report.ledger_sequence, ...data });
    };
    put(tiles.spend, cash(today.spend_micros), `${word("daily")} ${cash(daily)} · ${word("planSoFar", { plan: cash(today.planned_spend_micros) })}`, {
      micros: today.spend_micros, "budget-micros": daily, "planned-micros": today.planned_spend_micros,
    });
    tiles.spend.bar.show(today.spend_micros, daily, today.planned_spend_micros);
    put(tiles.total, cash(total.spend_micros), word("ofTotal", { budget: cash(whole) }), { micros: total.spend_micros, "budget-micros": whole });
    tiles.total.bar.show(total.spend_micros, whole);
    this.fillCost(today, total, cash, put);
    const counted = (t, name) => put(t, count(today[name]), word("inAll", { value: count(total[name]) }), { today: today[name], total: total[name] });
    counted(tiles.impressions, "impressions");
    counted(tiles.plays, "plays");
    counted(tiles.fans, "fans");
    if (total.unfollows) setText(tiles.fans.note, `${tiles.fans.note.textContent} · ${word("unfollowed", { n: count(total.unfollows) })}`);
    const inAll = (text) => (total.impressions ? word("inAll", { value: text }) : word("nothingYet"));
    put(tiles.clicks, percent(today.clicks, today.impressions), inAll(percent(total.clicks, total.impressions)), { today: today.clicks, total: total.clicks });
    const thousand = (figures) => perThousandMicros(figures.spend_micros, figures.impressions);
    put(tiles.thousand, cash(thousand(today)), inAll(cash(thousand(total))), { micros: thousand(today), "total-micros": thousand(total) });
  }

  fillCost(today, total, cash, put) {
    const { campaign } = this;
    // Who stays shows after 30 days: the cost of a kept fan is that of the whole campaign, by what is to be expected.
    const kept = campaign.goal === "kept_fans" ? this.report.kept_fans : null;
    const each = kept ? kept.cost_micros || null : eachMicros(today.spend_micros, today.goal_events);
    const expected = !kept && today.expected_goal_events > 0.5 ? today.spend_micros / today.expected_goal_events : null;
    const target = campaign.bid_mode === "target_cost" ? word("targetIs", { target: cash(campaign.target_cost_micros) }) : word("noTarget");
    const more = kept ? word("keptIs", { expected: count(Math.round(kept.expected)), kept: count(kept.kept), lost: count(kept.lost) }) : expected === null ? null : word("expectedIs", { value: cash(expected) });
    put(this.tiles.cost, cash(each), more === null ? target : `${target} · ${more}`, {
      micros: each, "total-micros": eachMicros(total.spend_micros, total.goal_events), "target-micros": campaign.target_cost_micros, today: today.goal_events, total: total.goal_events,
    });
    const isOver = each !== null && campaign.target_cost_micros > 0 && each > campaign.target_cost_micros;
    this.tiles.cost.value.className = each === null || !campaign.target_cost_micros ? "tile-value" : `tile-value ${isOver ? "over" : "good"}`;
  }

  fillTable() {
    const { report, campaign } = this;
    const cells = (tag, texts) => texts.map((text, i) => el(i === 0 ? "th" : tag, { text, scope: i === 0 && tag === "td" ? "row" : null }));
    const head = ["hour", "spendToday", "impressions", "clickRate", "plays", "perThousand", "fans"].map((name) => (name === "spendToday" ? word("keySpent") : word(name)));
    const rows = report.hours.slice(-this.hours).reverse().map(({ hour_start_at_ms: at, figures: f }) => el("tr", {}, ...cells("td", [
      instant(at, campaign.zone), money(f.spend_micros, campaign.cur), count(f.impressions), percent(f.clicks, f.impressions), count(f.plays),
      f.impressions ? money(perThousandMicros(f.spend_micros, f.impressions), campaign.cur) : "–", count(f.fans),
    ])));
    this.table.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, ...cells("th", head))), el("tbody", {}, ...rows)));
  }

  about() {
    const { campaign } = this;
    const cash = (micros) => money(micros, campaign.cur);
    const from = instant(campaign.start_at_ms, campaign.zone);
    const fact = (name, text) => el("div", {}, el("dt", { text: word(name) }), el("dd", { text }));
    return el(
      "section", { class: "card" }, el("h2", { text: word("aboutCampaign") }),
      el(
        "dl", { class: "facts" },
        fact("audience", `${audienceText(campaign.targeting)} · ${word(campaign.include_fans ? "withFans" : "withoutFans")}`),
        fact("daily", cash(campaign.daily_budget_micros)), fact("total", cash(campaign.total_budget_micros)),
        fact("bidding", campaign.bid_mode === "target_cost" ? `${word("targetCost")} ${cash(campaign.target_cost_micros)}` : word("automatic")),
        fact("schedule", campaign.end_at_ms ? word("fromTo", { from, to: instant(campaign.end_at_ms, campaign.zone) }) : word("fromOn", { from })),
        fact("videos", campaign.creatives.map((c) => (c.title ? `${c.title} (${c.creative_id})` : c.creative_id)).join(", ")),
      ),
    );
  }

  destroy() { this.charts.destroy(); }
}

/** What it says of a viewer to be in a segment: tiers and stages by what they mean, others by name. */
function segmentText(name) {
  const [kind, which, id] = name.split(":");
  if (!id || !["tier", "stage"].includes(kind)) return word("segment", { name });
  return word(`${kind}Of`, { [kind]: word(`${kind}_${which.replace("-", "_")}`), id });
}

/** An audience as a phrase. */
export function audienceText(node, isInner = false) {
  const joined = (nodes, glue) => {
    const text = nodes.map((n) => audienceText(n, true)).join(` ${word(glue)} `);
    return isInner && nodes.length > 1 ? `(${text})` : text;
  };
  const names = (dimension, codes) => codes.map((code) => nameOf(dimension, code)).join(", ");
  if (node.all) return joined(node.all, "and");
  if (node.any) return joined(node.any, "or");
  if (node.none) return word("not") + audienceText(node.none, true);
  if (node.attribute) return `${word(node.attribute.dimension)}: ${names(node.attribute.dimension, node.attribute.codes)}`;
  if (node.interests) return `${word("interests")}: ${names("interests", node.interests)}`;
  if (node.segment) return segmentText(node.segment);
  if (node.fans_of) return word("fansOf", { ids: node.fans_of.join(", ") });
  if (node.viewers_of) return word("viewersOf", { ids: node.viewers_of.join(", ") });
  if (node.live_visitors_of) return word("liveOf", { ids: node.live_visitors_of.join(", ") });
  if (node.content) {
    const { keywords, bgm, visual_tags, min_weight_percent } = node.content;
    return word("contentOf", { tags: [...keywords, ...bgm, ...visual_tags].join(", "), percent: min_weight_percent });
  }
  if (node.friends_of_fans) return word("laotie");
  if (node.fans_of_similar_creators) return word("similar");
  return word("everybody");
}
