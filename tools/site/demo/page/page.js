/**
 * What the pages have in common: a visitor picks a question, and every checkpoint is asked it.
 *
 * In: a page of Markdown with elements whose names begin with "demo-". Each page has a class of its
 * own, which says what an answer looks like.
 */

import { TypingError, pickedQuestion } from "./asking.js";
import { Model } from "./model.js";
import { exactMatch, formatScore } from "./reward.js";

/** @typedef {import("./asking.js").Question} Question */
/** @typedef {import("./asking.js").Pick} Pick */
/** @typedef {import("./model.js").Checkpoint} Checkpoint */

/** What the rewards that the page knows are called. @type {Record<string, string>} */
const PAID = { format: "format", em: "exact match" };

/**
 * @param {string} name
 * @returns {any}
 */
export const element = (name) => document.getElementById(`demo-${name}`);

/** The controls of a page, and what it is busy with. */
export class Page {
  /** @param {Model} model */
  constructor(model) {
    this.model = model;
    /** @type {Map<string, Promise<Checkpoint>>} */
    this.checkpoints = new Map();
    this.asked = 0; // how often something was asked: an older question gives way
    /** @type {Pick | undefined} */
    this.pick = undefined;
  }

  /** Fill the controls, and let them work. */
  start() {
    fillPicks(element("pick"), this.model.data.asking.picks);
    element("pick").addEventListener("change", () => this.takePick(element("pick").value));
    element("another").addEventListener("click", () => this.takePick(this.anotherPick()));
    for (const name of ["pick", "another"]) element(name).disabled = false;
    return this.takePick(element("pick").value);
  }

  /** @returns {string} */
  anotherPick() {
    const { picks } = this.model.data.asking;
    return picks[Math.floor(Math.random() * picks.length)].id;
  }

  /**
   * Ask the question with an id.
   * @param {string} id
   */
  takePick(id) {
    this.pick = this.model.data.asking.picks.find((pick) => pick.id === id);
    element("pick").value = id;
    return this.ask();
  }

  /** Ask the question of one checkpoint after the other. */
  async ask() {
    const number = ++this.asked;
    element("results").replaceChildren();
    try {
      const question = this.question();
      this.showQuestion(question);
      for (const name of this.model.names) {
        say(`${titleOf(name)} answers …`);
        const said = await this.saidBy(await this.checkpoint(name), question);
        if (number !== this.asked) return;
        const row = node("li", "");
        row.dataset.checkpoint = name;
        row.append(node("div", "demo-name", titleOf(name)), ...this.shown(question, said));
        element("results").append(row);
      }
      say(this.remark(question));
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      say(error instanceof TypingError ? words : `The model cannot answer: ${words}`, true);
    }
  }

  /**
   * @param {string} name
   * @returns {Promise<Checkpoint>}
   */
  async checkpoint(name) {
    await new Promise((resolve) => setTimeout(resolve)); // let the page draw
    if (!this.checkpoints.has(name)) this.checkpoints.set(name, this.model.checkpoint(name));
    return /** @type {Promise<Checkpoint>} */ (this.checkpoints.get(name));
  }

  /** @returns {Question} */
  question() {
    return pickedQuestion(/** @type {Pick} */ (this.pick), this.model.data.asking);
  }

  /**
   * Return the sentence that is paid; empty where nobody knows it.
   * @param {Question} question
   * @returns {string}
   */
  right(question) {
    return this.pick?.right ?? "";
  }

  /** @param {Question} question */
  showQuestion(question) {
    element("gloss").textContent = this.pick?.gloss ?? "";
  }

  /**
   * Return what a checkpoint says.
   * @param {Checkpoint} checkpoint
   * @param {Question} question
   * @returns {Promise<any>}
   */
  async saidBy(checkpoint, question) {
    throw new Error("each page says what it asks of a checkpoint");
  }

  /**
   * Return what is shown of what a checkpoint says.
   * @param {Question} question
   * @param {any} said
   * @returns {HTMLElement[]}
   */
  shown(question, said) {
    throw new Error("each page says what an answer looks like");
  }

  /**
   * Return what an answer is paid, in words.
   * @param {Question} question
   * @param {string} answer
   * @returns {string}
   */
  rewardInWords(question, answer) {
    const right = this.right(question);
    /** @type {Record<string, number>} */
    const scores = { format: formatScore(answer, question, right) };
    if (right) scores.em = exactMatch(answer, right);

    const weights = this.model.data.rewardWeights;
    const words = Object.entries(scores).map(
      ([name, score]) => `${PAID[name]} ${score} × ${rounded(weights[name])}`,
    );
    const sum = Object.entries(scores).reduce((total, [name, score]) => total + score * weights[name], 0);
    return `Paid: ${words.join(" + ")} = ${rounded(sum)}`;
  }

  /**
   * Return what is to be said of a question once it is answered.
   * @param {Question} question
   * @returns {string}
   */
  remark(question) {
    return "";
  }
}

/**
 * Load a model, and let a page work with it.
 * @param {typeof Page} Kind
 * @param {string} folder Where the files of the model lie.
 */
export async function open(Kind, folder = "") {
  say("Loading the model …");
  try {
    await new Kind(await Model.load(folder)).start();
  } catch (error) {
    say(`The model cannot be loaded: ${error instanceof Error ? error.message : error}`, true);
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {Pick[]} picks
 */
function fillPicks(select, picks) {
  const groups = new Map();
  for (const pick of picks) {
    if (!groups.has(pick.group)) {
      const group = document.createElement("optgroup");
      group.label = pick.group;
      groups.set(pick.group, group);
    }
    groups.get(pick.group).append(new Option(`${pick.sentence} ${pick.gloss}`, pick.id));
  }
  select.replaceChildren(...groups.values());
}

/**
 * Return a bar whose parts are as long as probabilities; the words beside it say the same.
 * @param {number[]} probabilities
 * @returns {HTMLElement}
 */
export function barOf(probabilities) {
  const bar = node("div", "demo-bar");
  bar.ariaHidden = "true";
  probabilities.forEach((probability, place) => {
    const part = node("div", place === 0 ? "is-a" : "is-b");
    part.style.width = `${100 * probability}%`;
    bar.append(part);
  });
  return bar;
}

/**
 * @param {string} name
 * @param {string} kind
 * @param {string} text
 * @returns {HTMLElement}
 */
export function node(name, kind, text = "") {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

/**
 * Return an element with Korean text.
 * @param {string} name
 * @param {string} kind
 * @param {string} text
 * @returns {HTMLElement}
 */
export function korean(name, kind, text) {
  const made = node(name, kind, text);
  made.lang = "ko";
  return made;
}

/**
 * @param {string} text
 * @param {boolean} isWrong
 */
function say(text, isWrong = false) {
  element("status").textContent = text;
  element("status").classList.toggle("is-wrong", isWrong);
}

/**
 * Return a checkpoint's name as people read it.
 * @param {string} name
 * @returns {string}
 */
function titleOf(name) {
  return name.replace("_", " ");
}

/**
 * @param {number} number
 * @returns {string}
 */
export function rounded(number) {
  return number.toFixed(3).replace(/\.?0+$/, "");
}
