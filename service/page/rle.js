// COCO's compressed run lengths: 5 bits a character, differences to the run before the last,
// column by column, unset pixels first.

export function decodeCounts(text) {
  const counts = [];
  let at = 0;
  while (at < text.length) {
    let value = 0;
    let shift = 0;
    let more = true;
    while (more) {
      const bits = text.charCodeAt(at++) - 48;
      value |= (bits & 0x1f) << shift;
      shift += 5;
      more = (bits & 0x20) !== 0;
      if (!more && (bits & 0x10) !== 0) value |= -1 << shift;
    }
    if (counts.length > 2) value += counts[counts.length - 2];
    counts.push(value);
  }
  return counts;
}

// Write `index` into row-major `labels` wherever the mask is set.
export function paintRle({ size: [height, width], counts }, labels, index) {
  let position = 0;
  decodeCounts(counts).forEach((run, n) => {
    if (n % 2 === 1) {
      for (let p = position; p < position + run; p++) {
        labels[(p % height) * width + Math.floor(p / height)] = index;
      }
    }
    position += run;
  });
}
