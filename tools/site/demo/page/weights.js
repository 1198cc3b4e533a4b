/**
 * Weights: float16 numbers become float32, and an adapter is merged into the layers it adapts.
 *
 * In: the files of the base model and of a checkpoint. Out: the numbers that the graph computes with.
 */

/**
 * Where a tensor lies in a file: its shape, and how many numbers come before it.
 * @typedef {{name: string, shape: number[], start: number}} Placed
 *
 * The two LoRA matrices of a layer: a is (rank, in), b is (out, rank).
 * @typedef {{weight: string, a: Placed, b: Placed}} Pair
 *
 * @typedef {{name: string, file: string, scale: number, pairs: Pair[]}} CheckpointData
 */

/**
 * Return the number that 16 bits stand for.
 * @param {number} half
 * @returns {number}
 */
function numberOfHalf(half) {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 0x1f;
  const fraction = half & 0x3ff;

  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/**
 * Return float16 numbers as float32; every float16 is one.
 * @param {ArrayBuffer} buffer
 * @returns {Float32Array}
 */
export function floatsOfHalves(buffer) {
  const all = Float32Array.from({ length: 2 ** 16 }, (_, half) => numberOfHalf(half));
  return Float32Array.from(new Uint16Array(buffer), (half) => all[half]);
}

/**
 * Return the weights of a checkpoint: W + scale * B @ A in every layer that it adapts.
 * @param {Float32Array} base The numbers of the base model; they stay as they are.
 * @param {Placed[]} tensors Where its tensors lie.
 * @param {Float32Array} factors The numbers of the checkpoint.
 * @param {CheckpointData} checkpoint Where its matrices lie.
 * @returns {Float32Array}
 */
export function merged(base, tensors, factors, checkpoint) {
  const weights = base.slice();
  const places = new Map(tensors.map((tensor) => [tensor.name, tensor]));

  for (const { weight, a, b } of checkpoint.pairs) {
    const start = /** @type {Placed} */ (places.get(weight)).start;
    addProduct(weights, start, factors, { a, b, scale: checkpoint.scale });
  }
  return weights;
}

/**
 * Add scale * B @ A to a matrix.
 * @param {Float32Array} weights
 * @param {number} start Where the matrix begins.
 * @param {Float32Array} factors
 * @param {{a: Placed, b: Placed, scale: number}} pair
 */
function addProduct(weights, start, factors, { a, b, scale }) {
  const [rank, width] = a.shape;
  const [rows] = b.shape;
  const change = new Float64Array(width);

  for (let row = 0; row < rows; row++) {
    change.fill(0);
    for (let each = 0; each < rank; each++) {
      const factor = factors[b.start + row * rank + each];
      const line = a.start + each * width;
      for (let column = 0; column < width; column++) change[column] += factor * factors[line + column];
    }
    const line = start + row * width;
    for (let column = 0; column < width; column++) weights[line + column] += scale * change[column];
  }
}
