import type { HandleClientError } from '@sveltejs/kit';

/** An address that nothing stands behind is told on the page; it is no error of ours. */
export const handleError: HandleClientError = ({ error, status, message }) => {
	if (status !== 404) console.error(error);
	return { message };
};
