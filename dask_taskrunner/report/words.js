"use strict";
// What the parts of the page share: elements, words, and colors. It knows nothing of a run.
const make = (tag, text, more) => Object.assign(document.createElement(tag), text == null ? {} : { textContent: text }, more);
const byId = (id) => document.getElementById(id);
const two = (n) => String(n).padStart(2, "0");
const time = (s) => {
  if (s == null) return "";
  if (s < 0.0995) return s > 0 && s < 0.00995 ? `${(s * 1000).toFixed(1)} ms` : `${Math.round(s * 1000)} ms`;
  if (s < 59.95) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  return whole < 3600 ? `${Math.floor(whole / 60)} min ${two(whole % 60)} s` : `${Math.floor(whole / 3600)} h ${two(Math.floor(whole % 3600 / 60))} min`;
};
const size = (n) => !n ? "" : n < 1000 ? `${n} B` : n < 1e6 ? `${(n / 1e3).toFixed(1)} kB` : n < 1e9 ? `${(n / 1e6).toFixed(1)} MB` : `${(n / 1e9).toFixed(2)} GB`;
const between = (least, n, most) => Math.max(least, Math.min(n, most));

// Red is what did not go well, and nothing else. Neighbors on the wheel are never neighbors in the list.
const wheel = (n) => [30 + (n * 137.5 + 180) % 300, 0.48 + (n % 2) * 0.12, 0.54 + (n % 3) * 0.06];
const hue = (n) => { const [h, s, l] = wheel(n); return `hsl(${h} ${s * 100}% ${l * 100}%)`; };
// Black or white, whichever is read better on it.
const inkOn = (n) => {
  const [h, s, l] = wheel(n);
  const part = (k) => { const at = (k + h / 30) % 12, v = l - s * Math.min(l, 1 - l) * between(-1, Math.min(at - 3, 9 - at), 1); return v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  return 0.2126 * part(0) + 0.7152 * part(8) + 0.0722 * part(4) > 0.179 ? "#000" : "#fff";
};
const BAD = new Set(["failed", "retrying", "timed-out", "crashed", "worker-lost", "cancelled"]);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
