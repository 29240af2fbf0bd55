// Draws each .chart of the page from its data: hover shows the values, two boxes make an axis
// logarithmic. A chart is {title, x_label, y_label, scale, borders, lines: [{name, x, y, spread?, look}]}.
"use strict";
(() => {
  const [HEIGHT, RIGHT, TOP, BOTTOM] = [260, 12, 8, 40];
  const {colours, markers} = JSON.parse(document.getElementById("looks").textContent);
  const SHAPES = {
    o: "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0", s: "M-3-3h6v6h-6z",
    "^": "M0-4L4 3H-4z", D: "M0-4L4 0L0 4L-4 0z", v: "M0 4L4-3H-4z",
    p: "M0-4L3.8-1.2L2.4 3.2H-2.4L-3.8-1.2z", "*": "M0-5L1.3-1.6H5L2 .7L3 4.4L0 2.2L-3 4.4L-2 .7L-5-1.6H-1.3z",
  };

  const colourOf = line => {
    const colour = colours[line.look % colours.length];
    return colour === "#000000" ? "currentColor" : colour; // seen on a dark page too
  };
  const marker = (line, x, y) => `<path d="${SHAPES[markers[line.look % markers.length]]}" ` +
    `fill="${colourOf(line)}" transform="translate(${x},${y})"/>`;
  const text = value => {
    const size = Math.abs(value);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2)
      : String(+value.toPrecision(5));
  };
  const escape = words => words.replace(/[&<>"]/g, c => `&#${c.charCodeAt(0)};`);

  function ticksOf(low, high, log, count) {
    if (log) {
      const few = Math.log10(high / low) < 3;
      const found = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
        for (const m of few ? [1, 2, 5] : [1]) found.push(m * 10 ** e);
      const inside = found.filter(t => t >= low && t <= high);
      const every = Math.ceil(inside.length / (count + 2));
      return inside.length > 1 ? inside.filter((_, i) => i % every === 0) : [low, high];
    }
    const rough = (high - low) / count, unit = 10 ** Math.floor(Math.log10(rough));
    const step = unit * [1, 2, 5, 10].find(m => m * unit >= rough);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-6; t += step) found.push(t);
    return found.map(t => +t.toPrecision(12));
  }

  // Where the values of an axis stand, from `start` to `end` in pixels, and its ticks, about `distance` apart.
  function axisOf(values, log, start, end, distance) {
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const only = low === high ? [low] : null; // round numbers may miss it
    if (only) [low, high] = log ? [low / 2, high * 2] : [low - 1, high + 1];
    const place = log ? Math.log : v => v;
    const margin = (place(high) - place(low)) * 0.04;
    const [first, last] = [place(low) - margin, place(high) + margin];
    const back = log ? Math.exp : v => v;
    const at = v => +(start + (place(v) - first) / (last - first) * (end - start)).toFixed(1);
    const count = Math.max(2, Math.floor(Math.abs(end - start) / distance));
    return {at, ticks: only || ticksOf(back(first), back(last), log, count)};
  }

  function draw(chart, data) {
    const [logX, logY] = [...chart.querySelectorAll("input")].map(box => box.checked);
    const width = chart.clientWidth, figure = chart.querySelector(".plot");
    const fits = (x, y) => y !== null && isFinite(y) && (!logX || x > 0) && (!logY || y > 0);
    const lines = data.lines.map(line => ({...line, points: line.x.map((x, i) => (
      {x, y: line.y[i], spread: line.spread ? line.spread[i] : 0})).filter(p => fits(p.x, p.y))}));
    const points = lines.flatMap(line => line.points);
    if (!points.length) return void (figure.innerHTML = "<p>nothing to draw</p>");
    const low = p => logY ? Math.max(p.y - p.spread, p.y / 10) : p.y - p.spread;
    const heights = points.flatMap(p => [low(p), p.y + p.spread]);
    const y = axisOf(heights, logY, HEIGHT - BOTTOM, TOP, 32);
    const left = 30 + 7 * Math.max(4, ...y.ticks.map(t => text(t).length)); // the label, the numbers
    const x = axisOf(points.map(p => p.x), logX, left, width - RIGHT, 50);
    let svg = "";
    for (const t of x.ticks) svg += `<path class="grid" d="M${x.at(t)} ${TOP}V${HEIGHT - BOTTOM}"/>` +
      `<text x="${x.at(t)}" y="${HEIGHT - BOTTOM + 16}" text-anchor="middle">${text(t)}</text>`;
    for (const t of y.ticks) svg += `<path class="grid" d="M${left} ${y.at(t)}H${width - RIGHT}"/>` +
      `<text x="${left - 6}" y="${y.at(t) + 4}" text-anchor="end">${text(t)}</text>`;
    svg += `<text x="${(left + width) / 2}" y="${HEIGHT - 4}" text-anchor="middle">` +
      `${escape(data.x_label)}</text><text transform="translate(12,${HEIGHT / 2 - 16}) rotate(-90)" ` +
      `text-anchor="middle">${escape(data.y_label)}</text>`;
    for (const border of data.borders)
      svg += `<path class="border" d="M${x.at(border)} ${TOP}V${HEIGHT - BOTTOM}"/>`;
    for (const line of lines) {
      const there = line.points.map(p => `${x.at(p.x)} ${y.at(p.y)}`);
      if (line.spread && there.length > 1) {
        const upper = line.points.map(p => `${x.at(p.x)} ${y.at(p.y + p.spread)}`);
        const lower = line.points.map(p => `${x.at(p.x)} ${y.at(low(p))}`).reverse();
        svg += `<path class="band" fill="${colourOf(line)}" d="M${[...upper, ...lower].join("L")}z"/>`;
      }
      if (there.length > 1) svg += `<path class="line" stroke="${colourOf(line)}" d="M${there.join("L")}"/>`;
      const every = Math.ceil(line.points.length / 16);
      line.points.forEach((p, i) => {
        if (i % every === 0) svg += marker(line, x.at(p.x), y.at(p.y));
      });
    }
    figure.innerHTML = `<svg width="${width}" height="${HEIGHT}" role="img" ` +
      `aria-label="${escape(data.title)}">${svg}<path class="cursor"/></svg><div class="tip" hidden></div>`;
    watch(figure, lines, x, width);
  }

  function watch(figure, lines, x, width) {
    const [svg, cursor, tip] = [".plot svg", ".cursor", ".tip"].map(
      name => figure.parentNode.querySelector(name));
    const places = [...new Set(lines.flatMap(line => line.points.map(p => p.x)))];
    svg.onpointermove = event => {
      const mouse = event.clientX - svg.getBoundingClientRect().left;
      const distance = place => Math.abs(x.at(place) - mouse);
      const near = places.reduce((a, b) => distance(b) < distance(a) ? b : a);
      const rows = lines.flatMap(line => line.points.filter(p => p.x === near).map(p =>
        `<div>${swatch(line)} ${escape(line.name)} <b>${text(p.y)}</b>` +
        `${line.spread && p.spread !== null ? ` ± ${text(+p.spread.toPrecision(2))}` : ""}</div>`));
      cursor.setAttribute("d", `M${x.at(near)} ${TOP}V${HEIGHT - BOTTOM}`);
      tip.innerHTML = `<div>${text(near)}</div>${rows.join("")}`;
      tip.hidden = false;
      const left = x.at(near) > width / 2 ? x.at(near) - tip.offsetWidth - 8 : x.at(near) + 8;
      tip.style.left = `${Math.max(0, left)}px`;
    };
    svg.onpointerleave = () => { tip.hidden = true; cursor.removeAttribute("d"); };
  }

  const swatch = line => `<svg class="swatch" width="22" height="10"><path class="line" ` +
    `stroke="${colourOf(line)}" d="M0 5H22"/>${marker(line, 11, 5)}</svg>`;

  for (const chart of document.querySelectorAll(".chart")) {
    const data = JSON.parse(chart.dataset.panel);
    const legend = data.lines.filter(line => line.name).map(
      line => `<span>${swatch(line)} ${escape(line.name)}</span>`);
    const box = axis => `<label><input type="checkbox" ${data.scale === "log" ? "checked" : ""}> log ${axis}</label>`;
    chart.innerHTML = `<figcaption><b>${escape(data.title)}</b> <span class="boxes">${box("x")} ${box("y")}` +
      `</span></figcaption><div class="plot"></div><div class="legend">${legend.join(" ")}</div>`;
    for (const input of chart.querySelectorAll("input")) input.onchange = () => draw(chart, data);
    draw(chart, data);
    new ResizeObserver(() => draw(chart, data)).observe(chart);
  }
})();
