// One stream of everything that happens, for all parts of the page that is shown.
import { follow } from './follow';
import type { Schemas } from './api/client';

export type Event = Schemas['EventView'];
type Listener = (event: Event) => void;

const listeners = new Set<Listener>();

class Events {
	open = $state(false);
	#stop: (() => void) | undefined;

	start() {
		this.#stop ??= follow('/v1/events?follow=true', {
			onMessages: (messages) => {
				for (const message of messages) {
					const event = JSON.parse(message.data) as Event;
					for (const listener of listeners) listener(event);
				}
			},
			onOpen: (open) => (this.open = open)
		});
	}

	stop() {
		this.#stop?.();
		this.#stop = undefined;
		this.open = false;
	}
}

export const events = new Events();

/** Hears events for as long as the component is there. */
export function onEvent(listener: Listener) {
	$effect(() => {
		listeners.add(listener);
		return () => listeners.delete(listener);
	});
}
