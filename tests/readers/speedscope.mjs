// Reads FILE with speedscope's own importer, taken out of its bundle: node speedscope.mjs BUNDLE FILE
// Prints each profile's name, unit, total and the self weight of each frame (name|file|line).
import fs from 'node:fs';

const [bundle, file] = process.argv.slice(2);
const text = fs.readFileSync(bundle, 'utf8');
const importer = /loadFileFromBase64:\((\w+),(\w+)\)=>\{this\.loadProfile\(\(\)=>(\w+)\(\1,\2\)\)\}/.exec(text);
if (!importer || !text.includes('(()=>{')) throw new Error('this bundle has no importer where it is looked for');

// The application starts on a page where everything is there and does nothing.
const nothing = new Proxy(function () {}, {
  get: (_, key) => (key === Symbol.toPrimitive ? () => '' : key === 'then' ? undefined : nothing),
  apply: () => nothing,
  construct: () => nothing,
  set: () => true,
});
Object.assign(globalThis, {
  window: globalThis, document: nothing, localStorage: nothing, matchMedia: () => nothing, addEventListener: () => {},
  location: { hash: '', protocol: 'file:', search: '' },
});
console.log = console.warn = () => {};
let failed;
try {
  (0, eval)(text.replace('(()=>{', `(()=>{globalThis.importFromBase64=${importer[3]};`));
} catch (error) {
  failed = error; // after the importer was defined, or the next line says so
}
if (!globalThis.importFromBase64) throw failed;
const group = await globalThis.importFromBase64(file.replace(/.*\//, ''), fs.readFileSync(file).toString('base64'));
const profiles = group.profiles.map((profile) => {
  const self = {};
  profile.forEachFrame((frame) => {
    self[[frame.name, frame.file ?? '', frame.line ?? ''].join('|')] = frame.getSelfWeight();
  });
  return { name: profile.getName(), unit: profile.getWeightUnit(), total: profile.getTotalWeight(), self };
});
process.stdout.write(JSON.stringify({ name: group.name, profiles }));
