/**
 * A line of a few dozen values in a table cell.
 *
 * @module sparkline
 */

const POINTS = 60;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {import("./history.js").History} history
 * @param {string} colour
 * @param {{width: number, height: number}} size of the canvas on the page; asking the canvas would cost a layout of the page
 */
export function drawSparkline(canvas, history, colour, size) {
  const ratio = globalThis.devicePixelRatio || 1;
  const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)];
  if (!width) return; // the column is folded away
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const values = history.values(POINTS);
  const known = values.filter((value) => !Number.isNaN(value));
  if (known.length < 2) return;
  const low = Math.min(...known);
  const span = Math.max(...known) - low;
  const margin = 2 * ratio;
  const x = (i) => margin + (i / (values.length - 1)) * (width - 2 * margin);
  const y = (value) => (span ? height - margin - ((value - low) / span) * (height - 2 * margin) : height / 2);
  pen.strokeStyle = colour;
  pen.lineWidth = 1.4 * ratio;
  pen.lineJoin = "round";
  pen.beginPath();
  let drawing = false;
  values.forEach((value, i) => {
    if (Number.isNaN(value)) drawing = false;
    else if (drawing) pen.lineTo(x(i), y(value));
    else {
      pen.moveTo(x(i), y(value));
      drawing = true;
    }
  });
  pen.stroke();
}
