// Logs in, and waits until that session is no longer taken: node session.js
// SERVER USER PASSWORD DB.  Fails if it is taken for more than 30 s.
'use strict';
const { main } = require('./pouch');

main(async ([server, name, password, db]) => {
	const login = await fetch(server + '/_session', {
		method: 'POST',
		headers: { 'Content-Type': 'application/json' },
		body: JSON.stringify({ name, password }),
	});
	if (!login.ok) {
		throw new Error('cannot log in: ' + login.status);
	}
	const cookie = login.headers.get('set-cookie').split(';')[0];
	for (let tries = 0; tries < 300; tries += 1) {
		// an answer may renew a cookie: this one is sent as it was
		const answer = await fetch(server + '/' + db, { headers: { Cookie: cookie } });
		if (answer.status === 401) {
			return;
		}
		await new Promise((resolve) => setTimeout(resolve, 100));
	}
	throw new Error('the session does not end');
});
