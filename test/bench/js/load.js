// Load documents, one JSON object a line with its _id, into a database with plain
// _bulk_docs of 500: node load.js SERVER DB FILE.  Prints the milliseconds.
'use strict';
const fs = require('fs');
const { request } = require('./common');

(async () => {
	const [base, db, file] = process.argv.slice(2);
	const docs = fs.readFileSync(file, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
	await request(base, 'PUT', '/' + db);
	const start = Date.now();
	for (let i = 0; i < docs.length; i += 500) {
		await request(base, 'POST', '/' + db + '/_bulk_docs', { docs: docs.slice(i, i + 500) });
	}
	console.log(Date.now() - start);
	process.exit(0);
})();
