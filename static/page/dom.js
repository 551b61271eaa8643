/**
 * Short names for what every view does with the document.
 *
 * @module dom
 */

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/** Writes only what differs: an equal text would cost a layout all the same. @param {Node} node @param {string} text */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** @param {string} tag @param {Record<string, string>} attributes @param {...(Node|string)} children */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Elements for a list whose length changes little: they are kept, and filled anew.
 * @param {HTMLElement} parent @param {number} count @param {() => HTMLElement} make
 */
export function keepCount(parent, count, make) {
  while (parent.childElementCount < count) parent.append(make());
  while (parent.childElementCount > count) parent.lastElementChild.remove();
  return parent.children;
}

/** `1,234`, `12.3 k`, `4.5 M`: short, for a figure at a glance. @param {number} value */
export function short(value) {
  if (!Number.isFinite(value)) return "–";
  const [scale, unit] = value >= 1e9 ? [1e9, " G"] : value >= 1e6 ? [1e6, " M"] : value >= 1e4 ? [1e3, " k"] : [1, ""];
  const scaled = value / scale;
  return `${scaled < 10 && scaled % 1 ? scaled.toFixed(1) : Math.round(scaled)}${unit}`;
}
