"use strict";
// Makes each chart one to read values from and to zoom. Its numbers are those of the table below it, so that
// table, picture and this are one. Without uPlot the picture that the server drew stays.
(() => {
  if (!window.uPlot) return;
  const charts = [];

  const colourOf = (element) => getComputedStyle(element).color;
  const number = (cell) => (cell.hasAttribute("data-v") ? Number(cell.dataset.v) : null);

  const read = (figure) => {
    const rows = [...figure.querySelectorAll(".twin tbody tr")];
    return {
      times: rows.map((row) => Number(row.dataset.t)),
      columns: [...rows[0].querySelectorAll("td")].map((_, i) => rows.map((row) => number(row.querySelectorAll("td")[i]))),
      labels: [...figure.querySelectorAll(".twin thead th")].slice(1).map((cell) => cell.textContent),
      urls: rows.map((row) => row.querySelector("a")?.href),
      incomplete: rows.at(-1).classList.contains("incomplete"),
      thresholds: [...figure.querySelectorAll(".threshold-line")].map((line) => Number(line.value)),
      marks: [...figure.querySelectorAll(".mark-line")].map((mark) => Number(mark.dataset.t)),
    };
  };

  const zoomTo = (from, to) => {
    const url = new URL(location.href);
    url.searchParams.set("from", new Date(Math.floor(from) * 1000).toISOString().replace(".000", ""));
    url.searchParams.set("to", new Date(Math.ceil(to) * 1000).toISOString().replace(".000", ""));
    location.assign(url);
  };

  // The last bucket goes on: its stretch is drawn dashed, as a series of its own.
  const withIncomplete = (data) => {
    const whole = data.columns.map((values) => values.map((v, i) => (i === values.length - 1 ? null : v)));
    const open = data.columns.map((values) => values.map((v, i) => (i >= values.length - 2 ? v : null)));
    return data.incomplete ? [...whole, ...open] : data.columns;
  };

  const linesOver = (data, ink, alarm) => (plot) => {
    const { ctx, bbox } = plot;
    const stroke = (colour, dash, x0, y0, x1, y1) => {
      ctx.save();
      ctx.strokeStyle = colour;
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash(dash.map((part) => part * devicePixelRatio));
      ctx.beginPath(); ctx.moveTo(x0, y0); ctx.lineTo(x1, y1); ctx.stroke();
      ctx.restore();
    };
    for (const value of data.thresholds) {
      const y = plot.valToPos(value, "y", true);
      stroke(alarm, [6, 4], bbox.left, y, bbox.left + bbox.width, y);
    }
    for (const at of data.marks) {
      const x = plot.valToPos(at, "x", true);
      stroke(ink, [2, 2], x, bbox.top, x, bbox.top + bbox.height);
    }
  };

  const shown = (value, unit) => (value == null ? "–" : `${value.toLocaleString("en", { maximumSignificantDigits: 4 })} ${unit}`);

  const draw = (figure) => {
    const data = read(figure);
    const plotted = figure.querySelector(".plot");
    const top = Number(plotted.dataset.top);
    const quiet = colourOf(figure.querySelector(".muted"));
    const alarm = figure.querySelector(".swatch.threshold");
    const colours = data.labels.map((_, i) => colourOf(figure.querySelector(`.swatch.s${i}`)));
    const line = (i, dash) => ({ label: data.labels[i], stroke: colours[i], width: 1.5, dash, spanGaps: false, points: { show: false } });
    const series = data.labels.map((_, i) => line(i));
    if (data.incomplete) series.push(...data.labels.map((_, i) => line(i, [2, 3])));
    const long = data.times.at(-1) - data.times[0] > 86400;
    const clock = (u, splits) => splits.map((ts) => {
      const text = new Date(ts * 1000).toISOString();
      return long ? text.slice(5, 16).replace("T", " ") : text.slice(11, 16);
    });
    const axis = { stroke: quiet, grid: { stroke: quiet, width: 0.15 }, ticks: { show: false }, font: "11px system-ui" };
    const readout = document.createElement("p");
    readout.className = "axis";
    plotted.replaceChildren();
    const plot = new uPlot({
      width: plotted.clientWidth, height: 152,
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "UTC"),
      legend: { show: false },
      series: [{}, ...series],
      scales: { y: { range: () => [0, top] } },
      axes: [{ ...axis, size: 24, space: long ? 88 : 48, values: clock }, { ...axis, size: 44 }],
      cursor: { drag: { x: true, y: false, setScale: false }, y: false },
      hooks: {
        draw: [linesOver(data, quiet, alarm ? colourOf(alarm) : quiet)],
        setSelect: [(u) => { if (u.select.width > 4) zoomTo(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")); }],
        setCursor: [(u) => {
          const at = u.cursor.idx;
          readout.textContent = at == null ? "" : [new Date(data.times[at] * 1000).toISOString().slice(11, 19),
            ...data.labels.map((label, i) => `${label} ${shown(data.columns[i][at], figure.dataset.unit)}`)].join("  ");
        }],
      },
    }, [data.times, ...withIncomplete(data)], plotted);
    plot.over.addEventListener("click", () => {
      const url = plot.cursor.idx == null ? null : data.urls[plot.cursor.idx];
      if (url && plot.select.width <= 4) location.assign(url);
    });
    plotted.append(readout);
    charts.push({ plot, plotted });
  };

  const drawAll = () => {
    for (const { plot } of charts.splice(0)) plot.destroy();
    for (const figure of document.querySelectorAll("figure.chart")) {
      if (figure.querySelector(".twin tbody tr")) draw(figure);
    }
  };
  const resize = () => { for (const { plot, plotted } of charts) plot.setSize({ width: plotted.clientWidth, height: 152 }); };

  drawAll();
  addEventListener("resize", resize);
  document.addEventListener("tocsin:theme", drawAll);
  document.addEventListener("tocsin:drawn", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
