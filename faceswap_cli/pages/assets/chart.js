"use strict";
// Draws each chart of the page with uPlot, from the numbers in its <script type="application/json">.

const DASHES = [[], [6, 3], [2, 3]];
const NUM_COLORS = 6;
const HEIGHT = 280;

/** Text of a number: readable digits, an exponent only where digits would not fit. */
function formatNumber(value) {
  if (value == null) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential().replace("e+", "e");
  return value.toLocaleString("en-US", { maximumSignificantDigits: 6 });
}

/** Text of a number under the cursor. */
const formatValue = value => (value == null ? "-" : formatNumber(Number(value.toPrecision(4))));

/** Position of the point of a series that is nearest to a position without one. */
function nearestPoint(chart, series, index) {
  const values = chart.data[series];
  for (let away = 0; away < values.length; away++) {
    if (values[index - away] != null) return index - away;
    if (values[index + away] != null) return index + away;
  }
  return index;
}

/** Width of the y axis: that of its longest label. */
function axisWidth(chart, labels, axisIndex) {
  chart.ctx.font = chart.axes[axisIndex].font[0];
  const widths = (labels || []).map(label => chart.ctx.measureText(label).width);
  return 18 + Math.ceil(Math.max(0, ...widths) / devicePixelRatio);
}

class Chart {
  constructor(figure, index) {
    this.figure = figure;
    this.data = JSON.parse(figure.querySelector("script").textContent);
    this.key = `chart ${index}`;
    const stored = JSON.parse(memory.get(this.key) || "{}");
    this.canBeLog = this.data.series.some(one => one.values.some(y => y > 0));
    this.isLog = (stored.isLog ?? this.data.log) && this.canBeLog;
    this.hidden = new Set(stored.hidden);
    this.addButtons(figure.querySelector("figcaption"));
    this.draw();
    onTheme.push(() => this.draw());
    new ResizeObserver(() => this.fit()).observe(figure);
  }

  addButtons(caption) {
    this.resetButton = document.createElement("button");
    this.resetButton.textContent = "whole range";
    // A zoom takes all charts of one axis with it.
    this.resetButton.onclick = () => charts
      .filter(chart => chart.data.x_label === this.data.x_label).forEach(chart => chart.resetZoom());
    this.scaleButton = document.createElement("button");
    this.scaleButton.disabled = !this.canBeLog;
    this.scaleButton.onclick = () => {
      this.isLog = !this.isLog;
      this.store();
      this.draw();
    };
    caption.append(this.resetButton, this.scaleButton);
  }

  store() {
    memory.set(this.key, JSON.stringify({ isLog: this.isLog, hidden: [...this.hidden] }));
  }

  /** Create the chart anew, in the present colors and on the present scale. */
  draw() {
    const zoomed = this.plot && this.isZoomed(this.plot) && { ...this.plot.scales.x };
    this.plot?.destroy();
    this.scaleButton.textContent = this.isLog ? "linear" : "log";
    this.scaleButton.title = `show the y axis on a ${this.isLog ? "linear" : "logarithmic"} scale`;
    const values = this.data.series.map(one =>
      this.isLog ? one.values.map(y => (y > 0 ? y : null)) : one.values);
    this.plot = new uPlot(this.options(), [this.data.x, ...values], this.figure);
    this.showZoom(false);
    if (zoomed) this.plot.setScale("x", { min: zoomed.min, max: zoomed.max });
  }

  options() {
    const style = getComputedStyle(root);
    const grid = { stroke: style.getPropertyValue("--line"), width: 0.5 };
    const axis = {
      stroke: style.getPropertyValue("--text"), grid, ticks: grid, font: "12px system-ui, sans-serif",
      values: (_, splits) => splits.map(formatNumber),
    };
    return {
      width: this.figure.clientWidth,
      height: HEIGHT,
      padding: [null, 28, null, null],
      scales: { x: { time: false }, y: { distr: this.isLog ? 3 : 1 } },
      axes: [{ ...axis, label: this.data.x_label, labelFont: axis.font, labelSize: 20 },
             { ...axis, size: axisWidth }],
      series: [{ label: this.data.x_label, value: (_, x) => formatValue(x) },
               ...this.data.series.map((one, index) => this.seriesOptions(one, index, style))],
      cursor: { dataIdx: nearestPoint, sync: { key: this.data.x_label }, points: { size: 7, fill: (chart, index) => chart.series[index]._stroke },
                drag: { x: true, y: false } },
      hooks: {
        setSeries: [(_, index) => this.rememberHidden(index)],
        setScale: [(chart, scale) => scale === "x" && this.showZoom(this.isZoomed(chart))],
      },
    };
  }

  seriesOptions(one, index, style) {
    const dash = DASHES[Math.floor(index / NUM_COLORS) % DASHES.length];
    return {
      label: one.name, stroke: style.getPropertyValue(`--c${index % NUM_COLORS}`).trim(),
      width: 1.6, dash, spanGaps: true, show: !this.hidden.has(one.name),
      points: { size: 5, fill: style.getPropertyValue("--back").trim(), ...(one.values.filter(y => y != null).length < 3 && { show: true }) },
      value: (_, y) => formatValue(y),
    };
  }

  rememberHidden(index) {
    if (index == null) return;
    const { name } = this.data.series[index - 1];
    this.plot.series[index].show ? this.hidden.delete(name) : this.hidden.add(name);
    this.store();
  }

  isZoomed(chart) {
    const { min, max } = chart.scales.x;
    return min > this.data.x[0] || max < this.data.x[this.data.x.length - 1];
  }

  resetZoom() {
    this.plot.setData(this.plot.data, true);
  }

  showZoom(isZoomed) {
    this.resetButton.hidden = !isZoomed;
    busy.set(this.key, isZoomed ? "a chart is zoomed" : "");
  }

  fit() {
    const width = this.figure.clientWidth;
    if (width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }
}

const charts = [...document.querySelectorAll(".chart")].map((one, index) => new Chart(one, index));
