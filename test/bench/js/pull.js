// PouchDB's own replication of a database into a LevelDB PouchDB: node pull.js URL
// DIRECTORY [BATCH].  Prints the milliseconds and the number of documents.
'use strict';
const PouchDB = require('pouchdb');

(async () => {
	const [url, dir, batch] = process.argv.slice(2);
	const local = new PouchDB(dir);
	const start = Date.now();
	const result = await local.replicate.from(url, { batch_size: Number(batch || 1000), batches_limit: 10 });
	console.log(Date.now() - start, result.docs_written);
	process.exit(0);
})();
