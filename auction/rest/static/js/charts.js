// Charts of one campaign, drawn by uPlot. All share one time axis and one cursor; colours follow the theme.
/* global uPlot */
import { el, setText } from "./dom.js";
import { dayKey, eachMicros, instant, money, percent, perThousandMicros, shortCount, shortMoney, count } from "./format.js";
import { language, word } from "./words.js";

const HOUR_MS = 3_600_000;
const HEIGHT = 168;
const WIDE_HEIGHT = 250;
const SYNC = uPlot.sync("fanbid");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Per hour: [seconds, figures] with a zero for every hour in which nothing happened. */
function everyHour(report, hours) {
  const byHour = new Map(report.hours.map((hour) => [hour.hour_start_at_ms, hour.figures]));
  const last = Math.floor(report.at_ms / HOUR_MS) * HOUR_MS;
  const first = report.hours.length ? Math.max(report.hours[0].hour_start_at_ms, last - (hours - 1) * HOUR_MS) : last;
  const rows = [];
  for (let at = first; at <= last; at += HOUR_MS) rows.push([at, byHour.get(at) ?? null]);
  return rows;
}

/** Sums since each local midnight, one point at the end of each hour; a gap parts the days. */
function sinceMidnight(rows, report, zone) {
  const columns = { x: [], spend: [], plan: [], paid: [], expected: [] };
  let day = null;
  let sum = null;
  const push = (atMs, values) => {
    columns.x.push(atMs / 1000);
    for (const name of ["spend", "plan", "paid", "expected"]) columns[name].push(values ? values[name] : null);
  };
  for (const [at, figures] of rows) {
    const key = dayKey(at, zone);
    if (key !== day) {
      if (day !== null) push(at - 1, null);
      day = key;
      sum = { spend: 0, plan: 0, events: 0, expected: 0 };
      push(at, { spend: 0, plan: 0, paid: null, expected: null });
    }
    sum.spend += figures?.spend_micros ?? 0;
    sum.plan += figures?.planned_spend_micros ?? 0;
    sum.events += figures?.goal_events ?? 0;
    sum.expected += figures?.expected_goal_events ?? 0;
    push(Math.min(at + HOUR_MS - 2, Math.max(report.at_ms, at + 1)), {
      spend: sum.spend, plan: sum.plan, paid: eachMicros(sum.spend, sum.events),
      expected: sum.expected > 0.5 ? sum.spend / sum.expected : null,
    });
  }
  return columns;
}

/** Gaps in canvas pixels where a day ends, wide enough to part the lines. */
function dayGaps(plot, seriesIdx, from, to, found) {
  const values = plot.data[seriesIdx];
  const gaps = [];
  for (let i = from; i <= to; i += 1) {
    if (values[i] !== null) continue;
    const x = Math.round(plot.valToPos(plot.data[0][i], "x", true));
    gaps.push([x - 2, x + 3]);
  }
  return [...found, ...gaps].sort((a, b) => a[0] - b[0]);
}

/** Which values no line would show: those without a neighbour, and all of a series that has only one or two. */
function lonely(plot, seriesIdx) {
  const values = plot.data[seriesIdx];
  const isMissing = (i) => values[i] === null || values[i] === undefined;
  const present = [...values.keys()].filter((i) => !isMissing(i));
  return present.length <= 2 ? present : present.filter((i) => isMissing(i - 1) && isMissing(i + 1));
}

function definitions(campaign) {
  const cur = campaign.cur;
  const one = word(`one_${campaign.goal}`);
  const cash = (v) => money(v, cur);
  const line = (key, stroke, extra = {}) => ({ key, stroke, width: 2, points: { show: false, filter: lonely, size: 7 }, spanGaps: false, ...extra });
  const level = (key, stroke) => line(key, stroke, { dash: [2, 5], width: 1.5, points: { show: false } });
  const dashed = (key, stroke) => line(key, stroke, { dash: [7, 5] });
  const bars = (key, stroke) => ({ key, stroke, bars: true, width: 0, points: { show: false } });
  return [
    {
      id: "spend", none: "noSpend", title: word("chartSpend"), wide: true, write: cash, axis: (v) => shortMoney(v, cur), sums: true,
      series: [line("keySpent", "accent", { fill: "accent-soft" }), dashed("keyPlan", "violet"), level("keyBudget", "ink-soft")],
      data: (c, report) => [c.spend, c.plan, c.x.map(() => report.daily_budget_micros)],
    },
    {
      id: "cost", none: "noResults", title: word("chartCost", { one }), write: cash, axis: (v) => shortMoney(v, cur), sums: true,
      series: [
        line("keyPaid", "accent"), dashed("keyExpected", "violet"),
        ...(campaign.bid_mode === "target_cost" ? [level("keyTarget", "teal")] : []),
      ],
      data: (c) => [c.paid, c.expected, ...(campaign.bid_mode === "target_cost" ? [c.x.map(() => campaign.target_cost_micros)] : [])],
    },
    { id: "fans", none: "noFans", title: word("chartFans"), write: count, axis: shortCount, series: [bars("fans", "accent")], hour: (f) => f?.fans ?? 0 },
    { id: "impressions", none: "chartEmpty", title: word("chartImpressions"), write: count, axis: shortCount, series: [bars("impressions", "violet")], hour: (f) => f?.impressions ?? 0 },
    { id: "click-rate", none: "noClicks", title: word("chartClickRate"), write: (v) => percent(v, 1), axis: (v) => percent(v, 1), series: [line("clickRate", "teal")], hour: (f) => (f?.impressions ? f.clicks / f.impressions : null) },
    { id: "plays", none: "noPlays", title: word("chartPlays"), write: count, axis: shortCount, series: [bars("plays", "teal")], hour: (f) => f?.plays ?? 0 },
    { id: "per-thousand", none: "noSpend", title: word("chartPerThousand"), write: cash, axis: (v) => shortMoney(v, cur), series: [line("perThousand", "violet")], hour: (f) => (f ? perThousandMicros(f.spend_micros, f.impressions) : null) },
  ];
}

class Chart {
  constructor(definition, zone) {
    this.definition = definition;
    this.zone = zone;
    this.plot = null;
    this.read = el("p", { class: "chart-read" });
    this.none = el("p", { class: "chart-none", hidden: true });
    this.place = el("div", { class: definition.wide ? "chart-plot wide-plot" : "chart-plot", role: "img" }, this.none);
    const key = definition.series.length > 1
      ? el("p", { class: "chart-key" }, ...definition.series.map((s) => el("span", { class: `k-${s.stroke === "ink-soft" ? "soft" : s.stroke}`, text: word(s.key) })), ...(definition.sums ? [el("em", { text: word("dayBegins") })] : []))
      : null;
    this.node = el(
      "section", { class: definition.wide ? "card chart wide" : "card chart", "data-testid": `chart-${definition.id}` },
      el("div", { class: "chart-head" }, el("h3", { text: definition.title }), this.read), key, this.place,
    );
  }

  /** Show columns {x, values} over a range in seconds; `anyShown`: whether the campaign had an impression at all. */
  show(columns, range, anyShown) {
    this.isEmpty = !columns.values.slice(0, 2).some((column) => column.some((v) => v !== null && v !== 0));
    const nothing = columns.x.map(() => null);
    const data = [columns.x, ...columns.values.map((column) => (this.isEmpty ? nothing : column))];
    this.none.hidden = !this.isEmpty;
    setText(this.none, word(anyShown ? this.definition.none : "chartEmpty"));
    if (this.plot === null) this.create(data, range);
    else {
      this.range = range;
      this.plot.setData(data, true);
    }
    this.readAt(null);
  }

  create(data, range) {
    this.range = range;
    const { definition } = this;
    const axisFont = "12px system-ui, sans-serif";
    const axis = { stroke: colour("ink-soft"), font: axisFont, grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const series = definition.series.map((s) => ({
      ...(definition.sums ? { gaps: dayGaps } : {}), stroke: colour(s.stroke), width: s.width, dash: s.dash, points: { ...s.points, fill: colour(s.stroke) }, spanGaps: s.spanGaps,
      fill: s.bars ? colour(s.stroke) : s.fill && colour(s.fill),
      paths: s.bars ? uPlot.paths.bars({ size: [0.72, 26], align: 1, radius: 0.18 }) : undefined,
    }));
    this.plot = new uPlot({
      width: this.width(), height: this.height(),
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), this.zone),
      legend: { show: false },
      cursor: { sync: { key: SYNC.key }, drag: { setScale: false, x: false, y: false }, points: { size: 8 } },
      scales: {
        x: { range: () => this.range },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.12 : 1] },
      },
      axes: [
        { ...axis, size: 30, space: 64, values: (_, splits) => splits.map((s) => this.tick(s)) },
        { ...axis, size: 62, values: (_, splits) => splits.map((v) => (this.isEmpty ? "" : definition.axis(v))) },
      ],
      series: [{}, ...series],
      hooks: { setCursor: [(plot) => this.readAt(plot.cursor.idx)] },
    }, data, this.place);
  }

  tick(seconds) {
    const at = seconds * 1000;
    const options = { timeZone: this.zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
    const time = new Intl.DateTimeFormat(language(), options).format(at);
    if (time !== "00:00") return time;
    return new Intl.DateTimeFormat(language(), { timeZone: this.zone, month: "short", day: "numeric" }).format(at);
  }

  readAt(idx) {
    if (!this.plot) return;
    const { data } = this.plot;
    const values = data[1];
    let at = idx;
    if (at === null || at === undefined || values[at] === null || values[at] === undefined) {
      if (idx !== null && idx !== undefined) at = idx;
      else for (at = values.length - 1; at > 0 && values[at] === null; at -= 1);
    }
    const value = values[at];
    const text = value === null || value === undefined || this.isEmpty ? "–" : this.definition.write(value);
    setText(this.read, idx === null || idx === undefined ? text : `${instant(data[0][at] * 1000, this.zone)} · ${text}`);
    if (idx === null || idx === undefined) {
      this.place.setAttribute("aria-label", word("chartLabel", { title: this.definition.title, value: text }));
    }
  }

  width() { return Math.max(this.place.clientWidth, 200); }

  height() { return this.definition.wide ? WIDE_HEIGHT : HEIGHT; }

  fit() { this.plot?.setSize({ width: this.width(), height: this.height() }); }

  destroy() { this.plot?.destroy(); }
}

/** The charts of one campaign. */
export class Charts {
  constructor(campaign) {
    this.campaign = campaign;
    this.charts = definitions(campaign).map((definition) => new Chart(definition, campaign.zone));
    this.node = el("div", { class: "charts" }, ...this.charts.map((chart) => chart.node));
    this.observer = new ResizeObserver(() => this.charts.forEach((chart) => chart.fit()));
    this.observer.observe(this.node);
  }

  show(report, hours) {
    const rows = everyHour(report, hours);
    const sums = sinceMidnight(rows, report, this.campaign.zone);
    const hourly = rows.map(([at]) => at / 1000);
    const end = Math.ceil(report.at_ms / HOUR_MS) * HOUR_MS;
    const shown = Math.min(hours, Math.max(6, rows.length));
    const range = [(end - shown * HOUR_MS) / 1000, end / 1000];
    for (const chart of this.charts) {
      const { definition } = chart;
      const columns = definition.sums
        ? { x: sums.x, values: definition.data(sums, report) }
        : { x: hourly, values: [rows.map(([, figures]) => definition.hour(figures))] };
      chart.show(columns, range, report.total.impressions > 0);
    }
  }

  destroy() {
    this.observer.disconnect();
    this.charts.forEach((chart) => chart.destroy());
  }
}
