// What was made or fetched, kept up to a bound: what was not used for the longest time goes first.

/** @template T */
export class Kept {
  /** @param {number} most weight in all @param {(one: T) => number} weigh @param {(one: T) => void} [drop] */
  constructor(most, weigh, drop = () => undefined) {
    this.most = most;
    this.weigh = weigh;
    this.drop = drop;
    /** @type {Map<string, T>} */
    this.all = new Map();
    this.weight = 0;
  }

  /** @param {string} key @returns {boolean} */
  has(key) {
    return this.all.has(key);
  }

  /** @param {string} key @returns {T | undefined} */
  get(key) {
    const found = this.all.get(key);
    if (this.all.delete(key) && found !== undefined) this.all.set(key, found);
    return found;
  }

  /** @param {string} key @param {T} one */
  put(key, one) {
    this.delete(key);
    this.all.set(key, one);
    this.weight += this.weigh(one);
    for (const old of this.all.keys()) {
      if (this.weight <= this.most || old === key) break;
      this.delete(old);
    }
  }

  /** @param {string} key @returns {boolean} it was there */
  delete(key) {
    const one = this.all.get(key);
    if (one === undefined) return false;
    this.all.delete(key);
    this.weight -= this.weigh(one);
    this.drop(one);
    return true;
  }
}
