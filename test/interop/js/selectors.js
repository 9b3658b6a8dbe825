// Selectors and documents at random, and whether they match according to
// pouchdb-selector-core, or according to CouchDB's rules (selector_model.js).
//
//   node selectors.js pouch|model COUNT SEED      a line each: selector, document, t or f, tabs between them
//   node selectors.js known                       the same of those that are known to differ
//
// In mode "pouch" only pairs come out for which PouchDB is meant to do what CouchDB
// does; what is passed over is in differs().
'use strict';

const { matchesSelector } = require('pouchdb-selector-core');
const model = require('./selector_model.js');
const known = require('./selector_known.js');

let state;

// A number from 0 to n - 1 (xorshift, so that a seed says everything).
function rand(n) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}

const pick = list => list[rand(list.length)];

function string() {
  let s = '';
  for (let n = rand(4); n > 0; n--) s += pick(['a', 'b', 'c']);
  return s;
}

const number = () => pick([0, 1, 2, 3, 4, -1, -3, 7, 10, 0.5, 2.5, 1e9]);
const scalar = () => pick([number, number, number, string, string, () => true, () => false, () => null])();

function value(depth) {
  if (depth > 0 && rand(4) === 0) {
    return rand(2) ? list(depth - 1) : object(depth - 1);
  }
  return scalar();
}

// Elements are of one kind: PouchDB looks at the first only.
function list(depth) {
  const make = rand(3) === 0 && depth > 0 ? () => object(depth) : scalar;
  return Array.from({ length: rand(4) }, make);
}

function object(depth) {
  const result = {};
  for (const name of ['x', 'y', 'z']) if (rand(2)) result[name] = value(depth - 1);
  return result;
}

function document() {
  const doc = { _id: string() || 'a' };
  for (const name of ['a', 'b', 'c']) if (rand(5)) doc[name] = value(2);
  if (rand(4)) doc.l = list(2);
  if (rand(4)) doc.o = object(2);
  return doc;
}

const field = () => pick(['a', 'b', 'c', 'l', 'o', 'o.x', 'o.y', 'o.x.y', 'l.0', 'l.1.x', 'a.x', '_id']);

function range() {
  const result = { [pick(['$gt', '$gte'])]: value(1) };
  if (rand(2)) result[pick(['$lt', '$lte'])] = value(1);
  return result;
}

const some = () => Array.from({ length: 1 + rand(3) }, scalar);

function condition(depth, all) {
  const kinds = [
    () => ({ $eq: value(1) }), () => ({ $ne: value(1) }), range, range,
    () => ({ $lt: value(1) }), () => ({ $lte: value(1) }),
    () => ({ $in: some() }), () => ({ $nin: some() }), () => ({ $exists: rand(2) === 0 }),
    () => ({ $type: pick(['null', 'boolean', 'number', 'string', 'array', 'object']) }),
    () => ({ $size: rand(4) }), () => ({ $mod: [pick([1, 2, 3, -2, 10]), pick([0, 0, 1, -1])] }),
    () => ({ $regex: pick(['^a', 'b$', 'ab?c', '^$', '[bc]{2}', 'a|c']) }),
    () => ({ $all: some() }),
  ];
  if (depth > 0) {
    kinds.push(() => ({ [pick(['$elemMatch', '$allMatch'])]: inner(depth - 1, all) }));
    if (all) {
      kinds.push(() => ({ $not: explicit(condition(depth - 1, all)) }));
      kinds.push(() => ({ $keyMapMatch: condition(0, all) }));
      kinds.push(() => ({ $beginsWith: string() }));
      kinds.push(() => value(1));
      kinds.push(() => ({ $all: pick([[], [list(1)], [list(1), 1]]) }));
      kinds.push(() => ({ [pick(['$and', '$or', '$nor'])]: Array.from({ length: rand(3) }, () => condition(depth - 1, all)) }));
    }
  }
  return pick(kinds)();
}

// Some operators take no bare values.
function explicit(cond) {
  return typeof cond === 'object' && cond !== null && !Array.isArray(cond) ? cond : { $eq: cond };
}

// What $elemMatch asks: of scalars or of objects.
function inner(depth, all) {
  if (rand(2)) return explicit(condition(depth, all));
  return { [pick(['x', 'y', 'z'])]: condition(depth, all) };
}

function fields(depth, all) {
  const result = {};
  for (let n = 1 + rand(2); n > 0; n--) result[field()] = condition(depth, all);
  return result;
}

function selector(depth, all) {
  const several = () => Array.from({ length: all ? rand(4) : 1 + rand(3) }, () => selector(depth - 1, all));
  if (depth > 0 && rand(3) === 0) {
    const op = pick(['$and', '$or', '$nor', '$not']);
    const result = { [op]: op === '$not' ? selector(depth - 1, all) : several() };
    return rand(3) === 0 ? { ...result, ...fields(1, all) } : result;
  }
  return fields(all ? 2 : 1, all);
}

// The conditions of a selector: [path, condition, negated]; merged: below an $and.
function conditions(sel, negated, out) {
  for (const [key, arg] of Object.entries(sel)) {
    if (key === '$and' || key === '$or') arg.forEach(s => conditions(s, negated, out));
    else if (key === '$nor') arg.forEach(s => conditions(s, true, out));
    else if (key === '$not') conditions(arg, true, out);
    else out.push([key, arg, negated]);
  }
  return out;
}

// Why PouchDB may differ from CouchDB for this pair; undefined: it should not.
function differs(sel, doc) {
  const text = JSON.stringify(sel);
  const conds = conditions(sel, false, []);

  if (/"\$and"/.test(text)) {
    // conditions below $and are merged into one a field, after JavaScript's order of values
    if (Object.keys(sel).some(key => key !== '$and') || /"\$(or|nor|not)"/.test(text)) return 'merged';
    // one inside of another takes the place of what is beside it
    if (text.split('"$and"').length > 2) return 'merged';
    if (new Set(conds.map(c => c[0])).size < conds.length) return 'merged';
  }
  for (const [path, cond, negated] of conds) {
    const found = model.getField(doc, path);
    // _id is compared as Erlang does
    if (path === '_id' && /[[{]/.test(JSON.stringify(Object.values(cond)).slice(1))) return 'order of _id';
    // only at the top $ne is not taken for a list of values
    if (Array.isArray(cond.$ne) && !Object.values(sel).includes(cond)) return 'list';
    // a value that JavaScript takes for false ends a path, and is what is found
    if (model.passesFalsy(doc, path)) return 'falsy';
    if (found.state === 'bad_path' && '$exists' in cond) return 'path through a scalar';
    if (/^l/.test(path) && typeof doc.l === 'string') return 'index of a string';
    if (found.state !== 'found') {
      // CouchDB: the field must be there, negated or not
      if (negated || '$ne' in cond) return 'missing';
      continue;
    }
    // null is no member of anything for PouchDB
    if (found.value === null && ('$in' in cond || '$nin' in cond)) return 'null';
    // inside of these missing members count the same way
    if (/\$(elem|all)Match/.test(JSON.stringify(cond)) && (/\$ne|\$not|\$nin|\$in|false/.test(JSON.stringify(cond)) || negated)) return 'missing inside';
    if (/\$(elem|all)Match/.test(JSON.stringify(cond)) && Array.isArray(found.value)) {
      const plain = !/Match":\{"\$/.test(JSON.stringify(cond));
      // the first element decides whether it is asked about members
      if (plain !== (found.value.length > 0 && typeof found.value[0] === 'object' && found.value[0] !== null)) return 'elements';
      if (found.value.some(v => v === null)) return 'elements';
    }
  }
  return undefined;
}

function line(sel, doc, result) {
  process.stdout.write(`${JSON.stringify(sel)}\t${JSON.stringify(doc)}\t${result ? 't' : 'f'}\n`);
}

function main(mode, count, seed) {
  let made = 0;

  if (mode === 'known') {
    for (const [sel, doc] of known) line(sel, doc, matchesSelector(doc, sel));
    return;
  }
  state = (Number(seed) * 2654435761 + 1) | 0 || 1;
  while (made < Number(count)) {
    const doc = document();
    const sel = selector(2, mode === 'model');
    let result;

    if (mode === 'model') result = model.matches(sel, doc);
    else {
      if (differs(sel, doc)) continue;
      try {
        result = matchesSelector(doc, sel);
      } catch (error) {
        continue; // $ne and $regex anywhere but at the top
      }
    }
    line(sel, doc, result);
    made++;
  }
}

main(...process.argv.slice(2));
