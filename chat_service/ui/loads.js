/** The loads of the conversation that is shown. Only the latest one counts. */

export class Loads {
  #control = new AbortController();
  #running = 0;
  #begun = 0;
  /** The number of the latest that has come. */
  #latest = 0;
  #replies = 0;

  get areRunning() {
    return this.#running > 0;
  }

  /** End those that are running: a slow network has to load what is shown next. */
  end() {
    this.#control.abort();
    this.#control = new AbortController();
  }

  /** To be called when a reply has ended, in one way or another. */
  replyEnded() {
    this.#replies += 1;
  }

  /** What `read` returns, or null if that is wanted no more, or a later load has come. */
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
    // It may have been read before a reply that has ended since was stored.
    return replies === this.#replies ? found : this.load(read);
  }
}
