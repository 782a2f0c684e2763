// Lines over time: the last half minute, in memory that does not grow. Draws with uPlot.

import { compact } from "./dom.js";

const SPAN_S = 30;
const POINTS = 400; // more than ten a second
const DASHES = [[], [8, 4], [2, 4]];

/** The colour and dash of the replica at this place: the same in charts and tables. */
export const styleOf = (place) => ({ name: `replica-${place % 6}`, dash: DASHES[place % 3] });

const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

export class Lines {
  /** `behind`: draw how far each is behind the furthest, not what it shows. */
  constructor(box, { behind = false } = {}) {
    this.box = box;
    this.behind = behind;
    this.colours = new Map();
    this.names = [];
    new ResizeObserver(() => this.fit()).observe(box);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.colours.clear();
      this.plot?.redraw(false);
    });
  }

  /** Begin again, with one line per name. */
  begin(names) {
    this.plot?.destroy();
    this.names = names;
    this.rows = [[], ...names.map(() => [])];
    this.plot = new window.uPlot(this.options(), this.rows, this.box);
  }

  /** One more point for every line, at this second. */
  add(at_s, values) {
    if (this.rows[0].at(-1) >= at_s) this.begin(this.names); // another node, or the same one anew
    const furthest = Math.max(...values.filter((value) => value !== null));
    this.rows[0].push(at_s);
    values.forEach((value, i) =>
      this.rows[i + 1].push(value === null ? null : this.behind ? furthest - value : value));
    while (this.rows[0].length > POINTS || this.rows[0][0] < at_s - SPAN_S - 1) {
      for (const row of this.rows) row.shift();
    }
  }

  draw() {
    if (this.plot) this.plot.setData(this.rows);
  }

  fit() {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (this.plot && width && height) this.plot.setSize({ width, height });
  }

  colour(name) {
    if (!this.colours.has(name)) this.colours.set(name, cssColour(name));
    return this.colours.get(name);
  }

  options() {
    const last = () => this.rows[0].at(-1) ?? SPAN_S;
    const axis = {
      stroke: () => this.colour("muted"),
      grid: { stroke: () => this.colour("line"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
    };
    return {
      width: this.box.clientWidth || 300,
      height: this.box.clientHeight || 200,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { time: false, range: () => [last() - SPAN_S, last()] },
        y: { range: (_, low, high) => (this.behind ? [0, Math.max(high * 1.1, 5)] : padded(low, high)) },
      },
      axes: [
        {
          ...axis,
          size: 26,
          splits: () => [0, 10, 20, 30].map((ago) => last() - SPAN_S + ago),
          values: (_, splits) => splits.map((at) => (at === last() ? "now" : `${Math.round(at - last())} s`)),
        },
        { ...axis, size: 52, values: (_, splits) => splits.map((n) => (Number.isInteger(n) ? compact(n) : "")) },
      ],
      series: [
        {},
        ...this.names.map((name, place) => ({
          label: name,
          stroke: () => this.colour(styleOf(place).name),
          dash: styleOf(place).dash,
          width: 2,
          points: { show: false },
          paths: window.uPlot.paths.stepped({ align: 1 }),
        })),
      ],
    };
  }
}

/** The range of counts, with room for a flat line. */
function padded(low, high) {
  if (low === null || low === undefined) return [0, 10];
  const room = Math.max((high - low) * 0.08, 2);
  return [Math.max(0, low - room), high + room];
}
