// node pm2_status.js MODULE NAME ONE ALL: times pm2's own interface, describe(NAME) and list(), in milliseconds.
const [module_path, name, ones, alls] = process.argv.slice(2);
const pm2 = require(module_path);

function timed(ask, times, done) {
  const found = [];
  (function next() {
    if (found.length >= times) return done(found);
    const began = process.hrtime.bigint();
    ask((error) => {
      if (error) throw error;
      found.push(Number(process.hrtime.bigint() - began) / 1e6);
      next();
    });
  })();
}

pm2.connect((error) => {
  if (error) throw error;
  timed((done) => pm2.describe(name, done), Number(ones), (one) => {
    timed((done) => pm2.list(done), Number(alls), (all) => {
      console.log(JSON.stringify({ one, all }));
      process.exit(0);
    });
  });
});
