// Makes a component: the tools' folder, the bundle, the folder of interfaces, the world, the output.
import { writeFile } from "node:fs/promises";

const [tools, sourcePath, witPath, worldName, output] = process.argv.slice(2);
const { componentize } = await import(`${tools}/node_modules/@bytecodealliance/componentize-js/src/componentize.js`);
try {
  const { component } = await componentize({ sourcePath, witPath, worldName });
  await writeFile(output, component);
} catch (error) {
  console.error(error.message);
  process.exit(65);
}
