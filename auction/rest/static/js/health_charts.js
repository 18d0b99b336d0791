// The two charts of the report on fans, drawn by uPlot.
/* global uPlot */
import { el } from "./dom.js";
import { count, shortCount } from "./format.js";
import { language, word } from "./words.js";

const HEIGHT = 220;
const DAY_S = 86_400;
const WHOLE = [1, 2, 5].flatMap((n) => Array.from({ length: 12 }, (_, zeros) => n * 10 ** zeros)).sort((a, b) => a - b); // fans have no halves

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const dayOf = (seconds) => new Intl.DateTimeFormat(language(), { timeZone: "UTC", month: "short", day: "numeric" }).format(seconds * 1000);

class DayChart {
  /** `has(day)`: whether a day has something to draw; if none has, that is said instead. */
  constructor(days, keys, has) {
    this.days = days;
    this.place = el("div", { class: "chart-plot", role: "img" });
    this.isEmpty = !days.some(has);
    const key = el("p", { class: "chart-key" }, ...keys.map(([name, tone]) => el("span", { class: `k-${tone}`, text: word(name) })));
    this.node = el("div", {}, ...(keys.length ? [key] : []), this.place);
    if (this.isEmpty) this.place.append(el("p", { class: "chart-none", text: word("hNothing") }));
    this.observer = new ResizeObserver(() => this.plot?.setSize({ width: this.width(), height: HEIGHT }));
  }

  width() { return Math.max(this.place.clientWidth, 200); }

  plotOf(data, series, range) {
    if (this.isEmpty) return;
    const axis = { stroke: colour("ink-soft"), font: "12px system-ui, sans-serif", grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    const [first, last] = [data[0][0], data[0].at(-1)];
    this.plot = new uPlot({
      width: this.width(), height: HEIGHT, legend: { show: false }, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      cursor: { drag: { setScale: false, x: false, y: false } },
      scales: { x: { range: () => [first - DAY_S / 2, last + DAY_S / 2] }, y: { range } },
      axes: [{ ...axis, size: 30, space: 54, incrs: [1, 2, 7].map((n) => n * DAY_S), values: (_, splits) => splits.map(dayOf) }, { ...axis, size: 56, incrs: WHOLE, values: (_, splits) => splits.map(shortCount) }],
      series: [{}, ...series],
    }, data, this.place);
    this.observer.observe(this.node);
  }

  destroy() {
    this.observer.disconnect();
    this.plot?.destroy();
  }
}

/** Gained above the line, by campaigns and otherwise, one on the other; who left below it. */
export class Bars extends DayChart {
  constructor(days) {
    super(days, [["byCampaigns", "accent"], ["byOthers", "violet"], ["leftKey", "soft"]], (d) => d.gained_by_campaigns + d.gained_otherwise + d.lost > 0);
    this.place.setAttribute("aria-label", days.map((d) => `${dayOf(d.day_start_at_ms / 1000)}: +${count(d.gained_by_campaigns + d.gained_otherwise)} −${count(d.lost)}`).join(", "));
  }

  draw() {
    const { days } = this;
    const bar = (tone) => ({ fill: colour(tone), stroke: colour(tone), width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.66, 34], radius: 0.12 }) });
    this.plotOf([
      days.map((d) => d.day_start_at_ms / 1000), days.map((d) => d.gained_by_campaigns + d.gained_otherwise), days.map((d) => d.gained_by_campaigns), days.map((d) => -d.lost),
    ], [bar("violet"), bar("accent"), bar("ink-soft")], (_, low, high) => [Math.min(low, 0) * 1.12, Math.max(high, 1) * 1.12]);
  }
}

/** How many fans there were. */
export class Line extends DayChart {
  constructor(days) {
    super(days, [], (d) => d.fans_at_end > 0);
    this.place.setAttribute("aria-label", days.map((d) => `${dayOf(d.day_start_at_ms / 1000)}: ${count(d.fans_at_end)}`).join(", "));
  }

  draw() {
    const { days } = this;
    const series = { stroke: colour("accent"), fill: colour("accent-soft"), width: 2, points: { show: true, size: 6, fill: colour("accent") } };
    this.plotOf([days.map((d) => d.day_start_at_ms / 1000), days.map((d) => d.fans_at_end)], [series], (_, low, high) => {
      const room = Math.max((high - low) * 0.15, 1);
      return [Math.max(0, low - room), high + room];
    });
  }
}
