// Accuracy and loss curves of a run, drawn by Plotly from curves.json and refreshed while the run lives.
"use strict";

(function () {
  // Runs that lie over one another; the same colours as the label chart's, readable in both themes.
  const palette = ["#2f9e95", "#d98736", "#7083d6", "#cf6189", "#86ab3d", "#a778d0", "#c4ab2e", "#52a5d8"];

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    return { ink: value("--ink"), soft: value("--ink-soft"), line: value("--line"), accent: value("--accent") };
  }

  function traces(series, c) {
    return series.map((line) => ({
      name: line.name,
      x: line.rounds,
      y: line.values,
      customdata: line.counts,
      hovertemplate: "%{y:.4f}, n = %{customdata}<extra>" + line.name.replace(/[<>&]/g, " ") + "</extra>",
      mode: "lines+markers",
      line: line.colour !== undefined
        ? { color: palette[line.colour % palette.length], width: 2, dash: line.colour < palette.length ? "solid" : "dash" }
        : { color: c.accent, width: 3 },
      marker: { size: line.pooled ? 7 : 5 },
    }));
  }

  function sweepTraces(lines) {
    return lines.map((line, index) => ({
      name: line.name,
      x: line.x,
      y: line.y,
      customdata: line.half.map((half, i) => [100 * half, line.counts[i]]),
      error_y: { type: "data", array: line.half, visible: line.half.some((half) => half > 0), thickness: 1.5 },
      hovertemplate: "%{y:.1%} ± %{customdata[0]:.1f}, n = %{customdata[1]}<extra>" + line.name.replace(/[<>&]/g, " ") + "</extra>",
      mode: "lines+markers",
      line: { color: palette[index % palette.length], width: 2 },
      marker: { size: 8 },
    }));
  }

  function sweepLayout(title, axis, c, several) {
    const base = layout(title, c, true, 1, axis, several ? 2 : 1);
    return { ...base, showlegend: several, yaxis: { ...base.yaxis, rangemode: "normal" }, xaxis: { ...base.xaxis, dtick: undefined, rangemode: "normal" } };
  }

  // A narrow window has no room for a long title in one line, nor for the names of a legend side by side.
  const narrow = window.matchMedia("(max-width: 40rem)");

  function wrapped(title) {
    if (!narrow.matches) return title;
    const lines = [""];
    for (const word of title.split(" ")) {
      if ((lines.at(-1) + word).length > 36) lines.push("");
      lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
    }
    return lines.join("<br>");
  }

  function layout(title, c, percent, rounds, across, lines = 1) {
    const below = lines > 1 ? (narrow.matches ? 22 * lines : 28) : 0;  // for the legend
    const axis = { gridcolor: c.line, zeroline: false, linecolor: c.line, tickcolor: c.line };
    return {
      separators: document.documentElement.lang === "de" ? ",." : ".,",
      title: { text: wrapped(title), font: { size: 14, color: c.ink }, x: 0, xref: "paper" },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: c.ink, family: "system-ui, sans-serif", size: 12 },
      height: 340 + below,
      // Paper is narrower than most windows.
      width: window.matchMedia("print").matches ? 640 : undefined,
      autosize: true,
      margin: { l: 48, r: 12, t: narrow.matches ? 64 : 36, b: 40 + below },
      xaxis: { ...axis, title: { text: across, standoff: 8 }, dtick: Math.max(1, Math.ceil(rounds / 10)), rangemode: "tozero" },
      yaxis: { ...axis, tickformat: percent ? ".0%" : ".2f", rangemode: percent ? "tozero" : "normal" },
      legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom" },
      hovermode: "x unified",
      hoverlabel: { bgcolor: c.line, font: { color: c.ink } },
    };
  }

  const fetched = new WeakMap();

  async function draw(box) {
    let response;
    try {
      response = await fetch(box.dataset.curves, { headers: { Accept: "application/json" } });
    } catch {  // the line is down: what stands there stays, and is asked for again
      setTimeout(() => draw(box), 3000);
      return;
    }
    if (response.redirected) return location.reload();  // signed out: the whole page goes to sign in
    if (!response.ok) return;
    const data = await response.json();
    fetched.set(box, data);
    await paint(box, data);
    if (data.live) setTimeout(() => draw(box), 3000);
  }

  async function paint(box, data) {
    const c = colours();
    // Plotly measures its box, so the box must be shown before it draws.
    box.querySelector("[data-none]").hidden = data.rounds > 0;
    const save = box.querySelector("[data-save-charts]");
    if (save) save.hidden = data.rounds === 0;
    // What only language models have is drawn where one of the runs has it.
    const told = (chart) => "mayLack" in chart.dataset ? data[chart.dataset.metric].some((line) => line.values.length) : data.rounds > 0;
    for (const chart of box.querySelectorAll("[data-metric]")) chart.hidden = !told(chart);
    for (const chart of box.querySelectorAll("[data-metric]:not([hidden])")) {
      const metric = chart.dataset.metric;
      const options = { displayModeBar: false, responsive: true };
      await Plotly.react(chart, traces(data[metric], c), layout(chart.dataset.title, c, metric !== "loss", data.rounds, box.dataset.across, data[metric].length), options);
    }
    for (const chart of box.querySelectorAll("[data-sweep]")) {
      chart.hidden = data.sweep.lines.length === 0;
      if (chart.hidden) continue;
      await Plotly.react(chart, sweepTraces(data.sweep.lines), sweepLayout(chart.dataset.title, data.sweep.axis, c, data.sweep.lines.length > 1), { displayModeBar: false, responsive: true });
    }
  }

  async function saveCharts(button) {
    for (const chart of button.closest("[data-curves]").querySelectorAll(".chart:not([hidden])")) {
      const filename = button.dataset.saveCharts + "-" + (chart.dataset.metric || "sweep");
      await Plotly.downloadImage(chart, { format: "svg", width: 900, height: 450, filename });
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-save-charts]");
    if (button) saveCharts(button);
  });

  // A part of the page that was hidden when its charts were drawn: now they have a width.
  document.addEventListener("fedslice:shown", () => {
    for (const box of document.querySelectorAll("[data-curves]")) if (fetched.has(box)) paint(box, fetched.get(box));
  });

  document.addEventListener("DOMContentLoaded", () => {
    for (const box of document.querySelectorAll("[data-curves]")) {
      draw(box);
      // Another theme, or paper: the same figures in other colours.
      for (const media of ["(prefers-color-scheme: dark)", "print"]) {
        window.matchMedia(media).addEventListener("change", () => { if (fetched.has(box)) paint(box, fetched.get(box)); });
      }
    }
  });
})();
