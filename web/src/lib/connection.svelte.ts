// Whether the platform answers. While it does not, it is asked once a second; when it is back,
// everything that is shown is read again.

const ASK_MS = 1_000;

class Connection {
	/** The platform does not answer. */
	away = $state(false);
	/** Rises each time it is back. */
	returns = $state(0);

	/** Something could not be sent. */
	lost() {
		if (this.away) return;
		this.away = true;
		this.#ask();
	}

	#ask() {
		setTimeout(async () => {
			const well = await fetch('/healthz', { cache: 'no-store' }).then(
				(answer) => answer.ok,
				() => false
			);
			if (!well) return this.#ask();
			this.away = false;
			this.returns += 1;
		}, ASK_MS);
	}
}

export const connection = new Connection();
