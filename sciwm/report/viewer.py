"""A small animated view of one or two trajectories, turned with the mouse, on a plain canvas.

The page must work offline and for years, so nothing is loaded: positions travel in the page as
16-bit integers, and the script below is all there is.
"""

import base64
import json
from collections.abc import Mapping
from html import escape
from itertools import product

import numpy as np

from sciwm.core.frame import Array
from sciwm.report.appearance import colours, radii, sticks
from sciwm.simulation.observables.motion import Motion

LARGEST = 600_000
"""Coordinates in the page, at most (1.6 MB); longer trajectories are thinned out."""

_INTEGER = 32_000

SCRIPT = """
"use strict";
for (const box of document.querySelectorAll(".viewer")) {
  const scene = JSON.parse(box.querySelector("script").textContent);
  const views = [...box.querySelectorAll("canvas")].map((canvas, v) => {
    const bytes = Uint8Array.from(atob(scene.positions[v]), c => c.charCodeAt(0));
    return { canvas, places: new Int16Array(bytes.buffer) };
  });
  const slider = box.querySelector("input"), button = box.querySelector("button");
  const clock = box.querySelector("output"), count = scene.colours.length;
  let frame = 0, yaw = 0.5, pitch = 0.3, zoom = 1, last = 0, dragged = null;
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;

  function draw() {
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    for (const { canvas, places } of views) {
      const ratio = devicePixelRatio || 1;
      const width = canvas.clientWidth * ratio, height = canvas.clientHeight * ratio;
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width; canvas.height = height;
      }
      const pen = canvas.getContext("2d");
      const scale = zoom * Math.min(width, height) / (2 * scene.extent);
      const project = (x, y, z) => {
        const across = cy * x + sy * z, depth = cy * z - sy * x;
        return [width / 2 + scale * across, height / 2 - scale * (cp * y - sp * depth),
                sp * y + cp * depth];
      };
      const points = [];
      for (let i = 0; i < count; i++) {
        const k = 3 * (frame * count + i);
        points.push(project(places[k] * scene.unit, places[k + 1] * scene.unit,
                            places[k + 2] * scene.unit));
      }
      pen.clearRect(0, 0, width, height);
      pen.lineCap = "round";
      pen.strokeStyle = "#b6bec8"; pen.lineWidth = ratio;
      for (const [a, b] of scene.edges) {
        const p = project(...a), q = project(...b);
        pen.beginPath(); pen.moveTo(p[0], p[1]); pen.lineTo(q[0], q[1]); pen.stroke();
      }
      const shapes = points.map((p, i) => [p[2], () => ball(pen, p, i, scale)]);
      for (const [i, j] of scene.bonds) {
        const p = points[i], q = points[j], middle = between(p, q, 0.5);
        const length = Math.hypot(scale * (p[2] - q[2]), p[0] - q[0], p[1] - q[1]) / scale;
        for (const [end, atom] of [[p, i], [q, j]]) {
          // From the surface of the ball, so that it hides what lies behind it.
          const start = between(end, middle, Math.min(1.8 * scene.radii[atom] / length, 1));
          shapes.push([(start[2] + middle[2]) / 2, () => stick(pen, start, middle, atom, scale)]);
        }
      }
      shapes.sort((a, b) => a[0] - b[0]);
      for (const shape of shapes) shape[1]();
    }
    slider.value = frame;
    clock.textContent = scene.times[frame] + (scene.time_unit ? " " + scene.time_unit : "");
    button.textContent = playing ? "Pause" : "Play";
  }
  function between(p, q, share) { return p.map((value, d) => value + share * (q[d] - value)); }
  function ball(pen, p, i, scale) {
    const r = scale * scene.radii[i];
    const light = pen.createRadialGradient(p[0] - r / 3, p[1] - r / 3, r / 8, p[0], p[1], r);
    light.addColorStop(0, "#ffffff"); light.addColorStop(0.35, scene.colours[i]);
    light.addColorStop(1, scene.colours[i]);
    pen.beginPath(); pen.arc(p[0], p[1], r, 0, 2 * Math.PI);
    pen.fillStyle = light; pen.fill();
    pen.strokeStyle = "#333b"; pen.lineWidth = Math.max(1, r / 18); pen.stroke();
  }
  function stick(pen, p, q, i, scale) {
    for (const [colour, width] of [["#4a4f55", 0.2], [scene.colours[i], 0.15]]) {
      pen.beginPath(); pen.moveTo(p[0], p[1]); pen.lineTo(q[0], q[1]);
      pen.strokeStyle = colour; pen.lineWidth = scale * width; pen.stroke();
    }
  }
  function step(now) {
    if (playing && now - last > 33) {
      last = now; frame = (frame + 1) % scene.times.length; draw();
    }
    requestAnimationFrame(step);
  }
  slider.max = scene.times.length - 1;
  slider.addEventListener("input", () => { playing = false; frame = +slider.value; draw(); });
  button.addEventListener("click", () => { playing = !playing; draw(); });
  for (const { canvas } of views) {
    canvas.addEventListener("pointerdown", event => {
      dragged = [event.clientX, event.clientY]; canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", event => {
      if (!dragged) return;
      yaw += (event.clientX - dragged[0]) / 120;
      pitch = Math.max(-1.5, Math.min(1.5, pitch + (event.clientY - dragged[1]) / 120));
      dragged = [event.clientX, event.clientY]; draw();
    });
    canvas.addEventListener("pointerup", () => { dragged = null; });
    canvas.addEventListener("wheel", event => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoom = Math.max(0.3, Math.min(4, zoom * Math.exp(-event.deltaY / 300))); draw();
    }, { passive: false });
  }
  addEventListener("resize", draw);
  draw();
  requestAnimationFrame(step);
}
"""


def viewer(motions: Mapping[str, Motion]) -> str:
    """The HTML of a view of each motion, all at the same moment; the page also needs `SCRIPT`.

    Args:
        motions: By title; of the same particles, at the same times.

    Raises:
        ValueError: If there are so many particles that not even two frames can be kept.
    """
    first = next(iter(motions.values()))
    frames, atoms = first.positions.shape[:2]
    room = LARGEST // (3 * atoms * len(motions))
    if room < 2:
        raise ValueError(f"{atoms} particles are too many to animate in a page")
    stride = -(-frames // room)
    shown = {name: _centred(motion)[::stride] for name, motion in motions.items()}
    largest = max(float(np.abs(places).max()) for places in shown.values()) or 1.0
    sizes = radii(first)
    scene = {
        "positions": [_packed(places, largest) for places in shown.values()],
        "unit": largest / _INTEGER,
        "extent": 1.05 * _extent(shown, sizes),
        "times": _times(first)[::stride],
        "time_unit": first.units.time if first.timestep is not None else "",
        "colours": colours(first),
        "radii": np.round(sizes, 3).tolist(),
        "bonds": sticks(first).tolist(),
        "edges": _edges(first).round(3).tolist(),
    }
    views = "".join(
        f'<div class="view"><b>{escape(name)}</b><canvas></canvas></div>' for name in motions
    )
    data = json.dumps(scene, ensure_ascii=True).replace("<", "\\u003c")
    return (
        f'<div class="viewer"><div class="stage">{views}</div>'
        '<div class="controls"><button type="button">Play</button>'
        '<input type="range" min="0" value="0" aria-label="time"><output></output></div>'
        '<p class="note screen">Drag to turn, Ctrl and the wheel to zoom.</p>'
        f'<script type="application/json">{data}</script></div>'
    )


def _centred(motion: Motion) -> Array:
    """(T, N, 3) as seen from the centre of mass, or folded into a box centred on the origin."""
    if not motion.pbc.any():
        return motion.without_drift().positions
    cell = motion.cells[0] + np.diag(np.where(motion.pbc, 0.0, 1.0))
    fractional = motion.positions @ np.linalg.inv(cell)
    return (fractional - np.where(motion.pbc, np.round(fractional), 0.0)) @ cell


def _packed(places: Array, largest: float) -> str:
    whole = np.round(places * (_INTEGER / largest)).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode("ascii")


def _extent(shown: Mapping[str, Array], sizes: Array) -> float:
    """Half of what a view must span: a few strays may leave it."""
    distances = [np.linalg.norm(places, axis=-1).ravel() for places in shown.values()]
    return float(np.percentile(np.concatenate(distances), 99.5) + sizes.max())


def _times(motion: Motion) -> list[float]:
    """Of each frame; their numbers where times are unknown."""
    spacing = motion.timestep or 1.0
    return [float(f"{k * spacing:.6g}") for k in range(len(motion))]


def _edges(motion: Motion) -> Array:
    """(E, 2, 3) the edges of a box that repeats in three directions."""
    if not motion.pbc.all():
        return np.zeros((0, 2, 3))
    corners = np.array(list(product((-0.5, 0.5), repeat=3)))
    ends = [(i, j) for i in range(8) for j in range(i) if (corners[i] != corners[j]).sum() == 1]
    return (corners @ motion.cells[0])[np.array(ends)]
