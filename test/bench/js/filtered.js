// The filtered _changes of a database, asked for once: node filtered.js SERVER DB QUERY.
// Prints the milliseconds and the number of rows.
'use strict';
const { request } = require('./common');

(async () => {
	const [base, db, query] = process.argv.slice(2);
	const start = Date.now();
	const answer = await request(base, 'GET', '/' + db + '/_changes?' + query);
	console.log(Date.now() - start, answer.results.length);
	process.exit(0);
})();
