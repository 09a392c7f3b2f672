// Light, dark, or as the system has it.

export type Theme = 'system' | 'light' | 'dark';

class Chosen {
	theme = $state<Theme>('system');

	constructor() {
		const kept = localStorage.getItem('berth-theme');
		if (kept === 'light' || kept === 'dark') this.choose(kept);
	}

	choose(theme: Theme) {
		this.theme = theme;
		if (theme === 'system') {
			localStorage.removeItem('berth-theme');
			delete document.documentElement.dataset.theme;
		} else {
			localStorage.setItem('berth-theme', theme);
			document.documentElement.dataset.theme = theme;
		}
	}
}

export const chosen = new Chosen();
