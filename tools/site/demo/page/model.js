/**
 * The model: the engine, the graph, and one session for each checkpoint.
 *
 * In: the files beside this one. Out: checkpoints that read tokens and return logits.
 */

import * as ort from "./engine/ort.wasm.bundle.min.mjs";
import { Tokenizer } from "./tokenizer.js";
import { floatsOfHalves, merged } from "./weights.js";

/** @typedef {import("./weights.js").CheckpointData} CheckpointData */
/** @typedef {import("./weights.js").Placed} Placed */
/** @typedef {import("./tokenizer.js").Vocabulary} Vocabulary */
/** @typedef {import("./asking.js").Asking} Asking */

/**
 * @typedef {Object} DemoData
 * @property {number} blocks
 * @property {number} heads
 * @property {number} headDim
 * @property {Vocabulary} vocabulary
 * @property {Asking} asking
 * @property {Record<string, number>} rewardWeights
 * @property {Placed[]} tensors
 * @property {CheckpointData[]} checkpoints
 * @property {number} [temperature] That of the training; of the model that can think only.
 * @property {Record<string, string>} [glosses] Words in English, for the same model.
 */

const DATA = "demo.json";
const GRAPH = "graph.onnx";
const BASE_FILE = "base.bin";
const WEIGHTS_FILE = "weights.bin"; // what the graph calls the file of its weights

ort.env.wasm.numThreads = 1; // more would need headers that a plain server does not send
ort.env.wasm.wasmPaths = { wasm: new URL("engine/ort-wasm-simd-threaded.wasm", import.meta.url) };
ort.env.logLevel = "error";

/** What a checkpoint has read so far, and the logits of what follows each token that it read last. */
export class Reading {
  /**
   * @param {Checkpoint} checkpoint
   * @param {ort.Tensor} cache
   * @param {ort.Tensor} logits
   */
  constructor(checkpoint, cache, logits) {
    this.checkpoint = checkpoint;
    this.cache = cache;
    this.logits = logits;
  }

  /**
   * Read on; this reading stays as it is, so that several texts can follow it.
   * @param {number[]} tokens At least one.
   * @returns {Promise<Reading>}
   */
  async read(tokens) {
    return this.checkpoint.read(tokens, this.cache);
  }

  /**
   * Return the logits of what follows one of the tokens that were read last.
   * @param {number} place Counted from the end if negative.
   * @returns {Float32Array}
   */
  after(place = -1) {
    const [count, width] = this.logits.dims;
    const row = place < 0 ? count + place : place;
    return this.logits.data.subarray(row * width, (row + 1) * width);
  }
}

export class Checkpoint {
  /**
   * @param {string} name
   * @param {ort.InferenceSession} session
   * @param {ort.Tensor} empty The cache of a model that has read nothing.
   */
  constructor(name, session, empty) {
    this.name = name;
    this.session = session;
    this.empty = empty;
  }

  /**
   * @param {number[]} tokens At least one.
   * @param {ort.Tensor} past
   * @returns {Promise<Reading>}
   */
  async read(tokens, past = this.empty) {
    const numbers = new ort.Tensor("int64", BigInt64Array.from(tokens, BigInt), [tokens.length]);
    const { logits, present } = await this.session.run({ tokens: numbers, past });
    return new Reading(this, present, logits);
  }
}

/** A model's files, and the checkpoints that have been made of them. */
export class Model {
  /**
   * @param {string} folder Where its files lie, beside this one: empty, or ending with a slash.
   * @param {DemoData} data
   * @param {Uint8Array} graph
   * @param {Float32Array} base The weights of the base model.
   */
  constructor(folder, data, graph, base) {
    this.folder = folder;
    this.data = data;
    this.graph = graph;
    this.base = base;
    this.tokenizer = new Tokenizer(data.vocabulary);
  }

  /**
   * Fetch what every checkpoint needs.
   * @param {string} folder As in the constructor.
   */
  static async load(folder = "") {
    const [data, graph, base] = await Promise.all([
      fetched(folder + DATA).then((answer) => answer.json()),
      fetched(folder + GRAPH).then((answer) => answer.arrayBuffer()),
      fetched(folder + BASE_FILE).then((answer) => answer.arrayBuffer()),
    ]);
    return new Model(folder, data, new Uint8Array(graph), floatsOfHalves(base));
  }

  /** The names of all checkpoints, the base first. */
  get names() {
    return ["base", ...this.data.checkpoints.map((checkpoint) => checkpoint.name)];
  }

  /**
   * @param {string} name
   * @returns {Promise<Checkpoint>}
   */
  async checkpoint(name) {
    const weights = await this.weights(name);
    const bytes = new Uint8Array(weights.buffer, weights.byteOffset, weights.byteLength);
    const session = await ort.InferenceSession.create(this.graph, {
      executionProviders: ["wasm"],
      externalData: [{ path: WEIGHTS_FILE, data: bytes }],
    });

    const { blocks, heads, headDim } = this.data;
    const empty = new ort.Tensor("float32", new Float32Array(0), [blocks, 2, heads, 0, headDim]);
    return new Checkpoint(name, session, empty);
  }

  /**
   * Return the weights of a checkpoint.
   * @param {string} name
   * @returns {Promise<Float32Array>}
   */
  async weights(name) {
    const found = this.data.checkpoints.find((checkpoint) => checkpoint.name === name);
    if (!found) return this.base;

    const buffer = await fetched(this.folder + found.file).then((answer) => answer.arrayBuffer());
    return merged(this.base, this.data.tensors, new Float32Array(buffer), found);
  }
}

/**
 * @param {string} file
 * @returns {Promise<Response>}
 */
async function fetched(file) {
  const answer = await fetch(new URL(file, import.meta.url));
  if (!answer.ok) throw new Error(`${file}: ${answer.status} ${answer.statusText}`);
  return answer;
}
