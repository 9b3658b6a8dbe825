// PouchDB's own replication, for proving the tests' tools: node replicate.js SOURCE TARGET
'use strict';
const { PouchDB, open, main } = require('./pouch');

main(async ([source, target]) => {
	const { docs_read, docs_written, doc_write_failures, errors } = await PouchDB.replicate(open(source), open(target), { batch_size: 500 });
	process.stdout.write(JSON.stringify({ docs_read, docs_written, doc_write_failures, errors }) + '\n');
});
