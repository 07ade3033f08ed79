// The inner loop of convolutions and dense layers.

/**
 * result[m * stride + n] = bias[m] + sum over k of rows[m * k + i] * columns[n * k + i]; sums are float64.
 * @param {{length: number, [i: number]: number}} rows (m, k)
 * @param {{length: number, [i: number]: number}} columns (n, k)
 * @param {number} k
 * @param {import("../onnx/tensor.js").Data} result
 * @param {{length: number, [i: number]: number} | null} bias (m,)
 * @param {number} m @param {number} n
 * @param {number} offset of the first result
 */
export function multiply(rows, columns, k, result, bias, m, n, offset = 0) {
  const even = n - (n % 2);
  const four = m - (m % 4);
  for (let r = 0; r < four; r += 4) {
    const start = bias ? [bias[r], bias[r + 1], bias[r + 2], bias[r + 3]] : [0, 0, 0, 0];
    for (let c = 0; c < even; c += 2) {
      let [s0, s1, s2, s3] = start;
      let [t0, t1, t2, t3] = start;
      let a = r * k, b = a + k, d = b + k, e = d + k;
      let x = c * k, y = x + k;
      for (const end = a + k; a < end; a++, b++, d++, e++, x++, y++) {
        const u = columns[x], v = columns[y];
        const p = rows[a], q = rows[b], w = rows[d], z = rows[e];
        s0 += p * u; s1 += q * u; s2 += w * u; s3 += z * u;
        t0 += p * v; t1 += q * v; t2 += w * v; t3 += z * v;
      } // prettier-ignore
      const at = offset + r * n + c;
      result[at] = s0; result[at + n] = s1; result[at + 2 * n] = s2; result[at + 3 * n] = s3;
      result[at + 1] = t0; result[at + n + 1] = t1; result[at + 2 * n + 1] = t2; result[at + 3 * n + 1] = t3;
    } // prettier-ignore
    if (even < n) {
      let [s0, s1, s2, s3] = start;
      let a = r * k, b = a + k, d = b + k, e = d + k;
      for (let x = even * k; x < n * k; a++, b++, d++, e++, x++) {
        const u = columns[x];
        s0 += rows[a] * u; s1 += rows[b] * u; s2 += rows[d] * u; s3 += rows[e] * u;
      } // prettier-ignore
      const at = offset + r * n + even;
      result[at] = s0; result[at + n] = s1; result[at + 2 * n] = s2; result[at + 3 * n] = s3;
    } // prettier-ignore
  }
  for (let r = four; r < m; r++) for (let c = 0; c < n; c++) single(r, c);

  /** @param {number} r @param {number} c */
  function single(r, c) {
    let sum = bias ? bias[r] : 0;
    for (let i = 0, a = r * k, x = c * k; i < k; i++) sum += rows[a + i] * columns[x + i];
    result[offset + r * n + c] = sum;
  }
}
