// The terminal writes its styles into elements, which our content security policy refuses. It gets a
// document whose style elements hand what is written to them to style sheets of the CSSOM.

export function withoutStyleElements(document: Document): Document {
	return new Proxy(document, {
		get(target, name) {
			if (name === 'createElement')
				return (tag: string, options?: ElementCreationOptions) =>
					tag === 'style' ? adopted(target) : target.createElement(tag, options);
			const value: unknown = Reflect.get(target, name, target);
			return typeof value === 'function' ? value.bind(target) : value;
		}
	});
}

/** Stands where the style element would; its sheet goes when it does. */
function adopted(document: Document): HTMLElement {
	const sheet = new CSSStyleSheet();
	document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
	const place = document.createElement('template');
	Object.defineProperty(place, 'textContent', {
		set: (text: string) => sheet.replaceSync(text),
		get: () => ''
	});
	place.remove = () => {
		document.adoptedStyleSheets = document.adoptedStyleSheets.filter((one) => one !== sheet);
		Element.prototype.remove.call(place);
	};
	return place;
}
