// [selector, document]: where PouchDB does not do what CouchDB does, and docrep
// does as CouchDB.
'use strict';

module.exports = [
  // CouchDB: whatever is asked of a field that is missing is false ...
  [{ a: { $ne: 1 } }, { b: 1 }],
  // ... also below a negation, which is pushed down to the operator
  [{ $not: { a: 1 } }, { b: 1 }],
  [{ $nor: [{ a: 1 }] }, { b: 1 }],
  // a path through a value that has no members leads nowhere, not to that value
  [{ 'a.b': { $eq: 0 } }, { a: 0 }],
  [{ 'a.b': { $exists: false } }, { a: 1 }],
  // null is a value like others
  [{ a: { $in: [null] } }, { a: null }],
  [{ a: { $nin: [1] } }, { a: null }],
  // an empty choice is true
  [{ $or: [] }, { a: 1 }],
  // an empty object is a value
  [{ a: {} }, { a: 1 }],
  // $all: nothing asked for matches nothing; one array may be the field itself
  [{ a: { $all: [] } }, { a: [1] }],
  [{ a: { $all: [[1, 2]] } }, { a: [1, 2] }],
  // strings are ordered by ICU
  [{ a: { $lt: 'B' } }, { a: 'a' }],
  // _id is compared as Erlang does: strings are greater than all else
  [{ _id: { $lt: [1] } }, { _id: 'a' }],
  // elements that are objects beside such that are none
  [{ a: { $elemMatch: { $eq: 1 } } }, { a: [{ x: 1 }, 1] }],
];
