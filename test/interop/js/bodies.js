// For what SQL shows, the same digest of bodies as clients.js makes: lines of JSON
// [id, rev, body] on standard input.
'use strict';
const crypto = require('crypto');
const { createInterface } = require('readline');
const { canonical, main } = require('./pouch');

main(async () => {
	const rows = [];
	for await (const text of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
		const [id, rev, body] = JSON.parse(text);
		rows.push(Buffer.from(id).toString('hex') + ' ' + rev + ' ' + canonical(body));
	}
	process.stdout.write(crypto.createHash('sha256').update(rows.sort().join('\n')).digest('hex') + '\n');
});
