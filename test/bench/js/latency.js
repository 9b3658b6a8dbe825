// Latency between a server and document tables: node latency.js here|there SERVER DB N.
// there: waits for documents l1 ... lN that carry "at", when they were written
// (ms since 1970), and prints for each how many ms later it came.
// here: writes N documents that carry "at", a few a second.
'use strict';
const { request, follow } = require('./common');

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

(async () => {
	const [mode, base, db, n] = process.argv.slice(2);
	if (mode === 'there') {
		let seen = 0;
		process.stdout.write('ready\n');
		await follow(base, db, 0, (row) => {
			if (row.doc && row.doc.at !== undefined) {
				console.log((Date.now() - row.doc.at).toFixed(1));
				seen += 1;
			}
			return seen >= Number(n);
		});
	} else {
		for (let i = 1; i <= Number(n); i += 1) {
			await request(base, 'PUT', '/' + db + '/w' + i, { at: Date.now() });
			await sleep(60);
		}
	}
	process.exit(0);
})();
