// Labels to canvases: one of filled classes, whose opacity the page's style sets, one of contours.

import { paintRle } from "./rle.js";

function canvasOf(height, width, className) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { height, width, className });
  return canvas;
}

// `answer` is the service's JSON; classes get numbers from 1 on, 0 is where none is.
export function labelsOf(answer) {
  const [height, width] = answer.size;
  const labels = new Uint16Array(height * width);
  for (const entry of answer.classes) paintRle(entry.rle, labels, entry.index + 1);
  return labels;
}

export function drawLabels(answer, colours) {
  const [height, width] = answer.size;
  const labels = labelsOf(answer);
  const fill = canvasOf(height, width, "fill");
  const contour = canvasOf(height, width, "contour");
  const filled = new ImageData(width, height);
  const lined = new ImageData(width, height);
  for (let p = 0; p < labels.length; p++) {
    if (labels[p] === 0) continue;
    const rgba = [...colours.get(labels[p] - 1), 255];
    filled.data.set(rgba, 4 * p);
    if (atEdge(labels, p, width)) lined.data.set(rgba, 4 * p);
  }
  fill.getContext("2d").putImageData(filled, 0, 0);
  contour.getContext("2d").putImageData(lined, 0, 0);
  return [fill, contour];
}

function atEdge(labels, p, width) {
  const own = labels[p];
  const column = p % width;
  return (
    (column > 0 && labels[p - 1] !== own) ||
    (column < width - 1 && labels[p + 1] !== own) ||
    (p >= width && labels[p - width] !== own) ||
    (p + width < labels.length && labels[p + width] !== own)
  );
}

// The image as the browser shows it, or null where it cannot.
export async function drawImage(blob) {
  try {
    const bitmap = await createImageBitmap(blob);
    const canvas = canvasOf(bitmap.height, bitmap.width, "image");
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    return canvas;
  } catch {
    return null;
  }
}

export function copyOf(canvas) {
  const copy = canvasOf(canvas.height, canvas.width, canvas.className);
  copy.getContext("2d").drawImage(canvas, 0, 0);
  return copy;
}
