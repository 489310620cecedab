// How far two answers of one model for one image are apart.

import { paintRle } from "./rle.js";

// `pixels`: where any class differs. `dice`: 2 |A and B| / (|A| + |B|) by class, null where both are
// empty.
export function difference(one, other) {
  const [height, width] = one.size;
  const differs = new Uint8Array(height * width);
  const dice = one.classes.map((entry, n) => {
    const [a, b] = [entry, other.classes[n]].map(({ rle }) => {
      const mask = new Uint8Array(height * width);
      paintRle(rle, mask, 1);
      return mask;
    });
    let common = 0;
    let total = 0;
    for (let p = 0; p < a.length; p++) {
      common += a[p] & b[p];
      total += a[p] + b[p];
      differs[p] |= a[p] ^ b[p];
    }
    return { name: entry.name, dice: total > 0 ? (2 * common) / total : null };
  });
  const pixels = differs.reduce((sum, bit) => sum + bit, 0);
  return { pixels, share: pixels / differs.length, dice };
}

export function spellDifference({ pixels, share, dice }) {
  const classes = dice.map(({ name, dice: value }) => `${name} ${value === null ? "in neither" : value.toFixed(3)}`);
  return `${pixels.toLocaleString("en")} px differ (${(100 * share).toFixed(2)} %), Dice ${classes.join(", ")}`;
}
