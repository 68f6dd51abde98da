/** The loads of the conversation that is shown. Only the latest one counts. */

class Loads {
  #control = new AbortController();
  #running = 0;
  #begun = 0;
  /** The number of the latest load that has come. */
  #latest = 0;
  #replies = 0;

  get areRunning() {
    return this.#running > 0;
  }

  /** End the running loads, as a slow network has to load what is shown next. */
  end() {
    this.#control.abort();
    this.#control = new AbortController();
  }

  /** To be called when a reply has ended, in one way or another. */
  replyEnded() {
    this.#replies += 1;
  }

  /** What `read` returns; null if that is no longer wanted, or a later load came first. */
  async load(read) {
    const [{ signal }, replies, number] = [this.#control, this.#replies, ++this.#begun];
    let found;
    this.#running += 1;
    try {
      found = await read(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#running -= 1;
    }
    if (signal.aborted || number < this.#latest) return null;
    this.#latest = number;
    // If a reply has ended meanwhile, the messages may have been read before it was stored.
    return replies === this.#replies ? found : this.load(read);
  }
}

export const loads = new Loads();
