//! The growth rules of the interfaces: what was released stays as it was, more may come.
//!
//! Takes `platform/wit/*/*.wit` and the frozen copies in `platform/wit/released`; gives what a
//! component that was compiled against a frozen copy would miss. Types are compared by their
//! structure, so documentation and order may change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use wit_parser::{
    Function, Handle, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner,
    UnresolvedPackageGroup, WorldItem,
};

use crate::shell;

/// Folder of frozen copies, below that of the interfaces.
const RELEASED: &str = "released";

/// Compares the interfaces with the released ones.
pub(crate) fn check() -> Result<()> {
    let folder = shell::root().join("platform/wit");
    let now = promises(&sources(&folder)?)?;
    let released = promises(&sources(&folder.join(RELEASED))?)?;
    let broken = broken(&released, &now);
    if broken.is_empty() {
        return Ok(());
    }
    bail!(
        "components that were compiled for a released interface would not run any more:\n  {}\n\
         platform/wit/README.md says how interfaces grow",
        broken.join("\n  ")
    )
}

/// The WIT files of a folder and of the folders in it, but for the frozen ones.
fn sources(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(now) = open.pop() {
        let entries =
            std::fs::read_dir(&now).with_context(|| format!("cannot read {}", now.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if path.is_dir() && now == folder && name != RELEASED && name != "museum" {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "wit") {
                found.push((path.clone(), std::fs::read_to_string(path)?));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What hosts and guests rely on: each item by its name, with its form.
type Promises = BTreeMap<Item, String>;

/// A part of an interface or world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    /// Package, interface and version; then the function.
    Function(String, String),
    /// The same of a type.
    Type(String, String),
    /// A world, and what it imports.
    Import(String, String),
    /// A world, and what it exports.
    Export(String, String),
}

impl Item {
    fn text(&self) -> String {
        match self {
            Self::Function(of, name) => format!("the function `{name}` of {of}"),
            Self::Type(of, name) => format!("the type `{name}` of {of}"),
            Self::Import(of, name) => format!("the import {name} of the world {of}"),
            Self::Export(of, name) => format!("the export {name} of the world {of}"),
        }
    }
}

/// What was promised and is not kept, one line each.
fn broken(released: &Promises, now: &Promises) -> Vec<String> {
    let mut broken = Vec::new();
    for (item, was) in released {
        match now.get(item) {
            None => broken.push(format!("{} is gone", item.text())),
            Some(is) if is != was => {
                broken.push(format!("{} was `{was}` and is `{is}`", item.text()));
            }
            Some(_) => {}
        }
    }
    // What a guest must have cannot grow: those that were compiled before do not have it.
    let exported = |interface: &str| {
        released.keys().any(|item| matches!(item, Item::Export(_, name) if name == interface))
    };
    let world = |name: &str| {
        released
            .keys()
            .any(|item| matches!(item, Item::Import(of, _) | Item::Export(of, _) if of == name))
    };
    for item in now.keys().filter(|item| !released.contains_key(item)) {
        let demanded = match item {
            Item::Function(interface, _) => exported(interface),
            Item::Export(of, _) => world(of),
            Item::Type(..) | Item::Import(..) => false,
        };
        if demanded {
            broken.push(format!("{} is new, and guests do not have it", item.text()));
        }
    }
    broken
}

/// Reads packages and lists what they promise.
fn promises(sources: &[(PathBuf, String)]) -> Result<Promises> {
    let mut groups = Vec::new();
    for (path, text) in sources {
        let group = UnresolvedPackageGroup::parse(path, text)
            .map_err(|(map, error)| anyhow!("{}", error.render(&map)))?;
        groups.push(group);
    }
    let mut resolve = Resolve::default();
    let first = groups.pop().context("there are no interfaces")?;
    resolve.push_groups(first, groups).map_err(|error| anyhow!("{error:#}"))?;
    let mut promises = Promises::new();
    for (id, interface) in resolve.interfaces.iter() {
        // What has no name is part of a world, whose names are ours to choose.
        let Some(of) = resolve.id_of(id) else { continue };
        for (name, function) in &interface.functions {
            let item = Item::Function(of.clone(), name.clone());
            promises.insert(item, signature(&resolve, function));
        }
        for (name, id) in &interface.types {
            promises.insert(Item::Type(of.clone(), name.clone()), definition(&resolve, *id));
        }
    }
    for (_, world) in resolve.worlds.iter() {
        let package = world.package.context("a world without a package")?;
        let of = resolve.id_of_name(package, &world.name);
        for (key, item) in &world.imports {
            let form = world_item(&resolve, item);
            promises.insert(Item::Import(of.clone(), resolve.name_world_key(key)), form);
        }
        for (key, item) in &world.exports {
            let form = world_item(&resolve, item);
            promises.insert(Item::Export(of.clone(), resolve.name_world_key(key)), form);
        }
    }
    Ok(promises)
}

fn world_item(resolve: &Resolve, item: &WorldItem) -> String {
    match item {
        WorldItem::Interface { id, .. } => interface_name(resolve, *id),
        WorldItem::Function(function) => signature(resolve, function),
        WorldItem::Type { id, .. } => definition(resolve, *id),
    }
}

fn interface_name(resolve: &Resolve, id: InterfaceId) -> String {
    resolve.id_of(id).unwrap_or_else(|| "an interface of its own".to_owned())
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params = function
        .params
        .iter()
        .map(|param| format!("{}: {}", param.name, named(resolve, &param.ty)))
        .collect::<Vec<_>>()
        .join(", ");
    let result = function
        .result
        .map(|result| format!(" -> {}", named(resolve, &result)))
        .unwrap_or_default();
    // Whether it is `async` is part of the kind.
    let kind = if function.kind.is_async() { "async func" } else { "func" };
    format!("{kind}({params}){result}")
}

/// A type where it is used: its name, or its form where it has none.
fn named(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
    let def = &resolve.types[*id];
    match (&def.name, def.owner) {
        // A type that was taken over with `use` is the other interface's.
        (Some(_), _) if matches!(def.kind, TypeDefKind::Type(Type::Id(_))) => match &def.kind {
            TypeDefKind::Type(ty) => named(resolve, ty),
            _ => String::new(),
        },
        (Some(name), TypeOwner::Interface(of)) => {
            format!("{}.{name}", interface_name(resolve, of))
        }
        (Some(name), _) => name.clone(),
        (None, _) => definition(resolve, *id),
    }
}

fn definition(resolve: &Resolve, id: TypeId) -> String {
    let of = |ty: &Type| named(resolve, ty);
    let or_none = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), of);
    let list = |parts: Vec<String>| parts.join(", ");
    match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            let field = |field: &wit_parser::Field| format!("{}: {}", field.name, of(&field.ty));
            format!("record {{ {} }}", list(record.fields.iter().map(field).collect()))
        }
        TypeDefKind::Variant(variant) => {
            let case = |case: &wit_parser::Case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, of(ty)),
                None => case.name.clone(),
            };
            format!("variant {{ {} }}", list(variant.cases.iter().map(case).collect()))
        }
        TypeDefKind::Enum(cases) => {
            let names = cases.cases.iter().map(|case| case.name.clone()).collect();
            format!("enum {{ {} }}", list(names))
        }
        TypeDefKind::Flags(flags) => {
            let names = flags.flags.iter().map(|flag| flag.name.clone()).collect();
            format!("flags {{ {} }}", list(names))
        }
        TypeDefKind::Resource => "resource".to_owned(),
        TypeDefKind::Handle(Handle::Own(id)) => format!("own<{}>", of(&Type::Id(*id))),
        TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", of(&Type::Id(*id))),
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", list(tuple.types.iter().map(of).collect()))
        }
        TypeDefKind::Option(ty) => format!("option<{}>", of(ty)),
        TypeDefKind::Result(result) => {
            format!("result<{}, {}>", or_none(&result.ok), or_none(&result.err))
        }
        TypeDefKind::List(ty) => format!("list<{}>", of(ty)),
        TypeDefKind::Map(key, value) => format!("map<{}, {}>", of(key), of(value)),
        TypeDefKind::FixedLengthList(ty, length) => format!("list<{}, {length}>", of(ty)),
        TypeDefKind::Future(ty) => format!("future<{}>", or_none(ty)),
        TypeDefKind::Stream(ty) => format!("stream<{}>", or_none(ty)),
        TypeDefKind::Type(ty) => of(ty),
        TypeDefKind::Unknown => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
package berth:demo@0.1.0;
interface power {
    record count { value: u64, unit: string }
    resource request { send: func() -> result<count, string>; }
    add: func(key: string, amount: u64) -> count;
}
interface handler {
    use power.{count};
    variant verdict { allow(list<string>), deny(string) }
    handle: func(count: count) -> verdict;
}
interface idle { rest: func(); }
world demo { import idle; export handler; }
";

    fn after(old: &str, new: &str) -> Vec<String> {
        assert!(BEFORE.contains(old), "{old}");
        let read = |text: &str| promises(&[(PathBuf::from("demo.wit"), text.to_owned())]).unwrap();
        broken(&read(BEFORE), &read(&BEFORE.replace(old, new)))
    }

    #[test]
    fn the_interfaces_of_this_tree_keep_what_was_released() {
        check().unwrap();
    }

    #[test]
    fn additions_pass() {
        for (old, new) in [
            ("interface handler", "interface more { ask: func(); }\ninterface handler"),
            ("add: func", "sub: func(key: string);\n    add: func"),
            (
                "    resource request {",
                "    record other { a: u8 }\n    resource request { get: func();",
            ),
            ("world demo {", "interface late { f: func(); }\nworld demo { import late;"),
            ("world demo", "world other { export power; }\nworld demo"),
            ("interface power", "/// Said in other words.\ninterface power"),
        ] {
            assert_eq!(after(old, new), Vec::<String>::new(), "{new}");
        }
    }

    #[test]
    fn what_changes_or_goes_is_named() {
        for (old, new, told) in [
            ("add: func", "plus: func", "the function `add` of berth:demo/power@0.1.0 is gone"),
            ("unit: string", "unit: u8", "the type `count` of berth:demo/power@0.1.0 was `record"),
            (", unit: string }", ", unit: string, more: u8 }", "the type `count`"),
            ("amount: u64)", "amount: u32)", "the function `add`"),
            ("amount: u64)", "amount: u64, more: bool)", "the function `add`"),
            ("amount: u64) -> count", "amount: u64)", "the function `add`"),
            ("deny(string) }", "deny(string), wait }", "the type `verdict`"),
            ("result<count, string>", "result<count>", "`[method]request.send`"),
            ("import idle; ", "", "the import berth:demo/idle@0.1.0 of the world"),
            ("@0.1.0", "@0.2.0", "is gone"),
        ] {
            let broken = after(old, new);
            assert!(broken.iter().any(|line| line.contains(told)), "{new}: {broken:?}");
        }
    }

    #[test]
    fn what_guests_must_have_cannot_grow() {
        let function = after("handle: func", "more: func();\n    handle: func");
        assert!(function[0].contains("`more` of berth:demo/handler@0.1.0 is new"), "{function:?}");
        let export =
            after("world demo { ", "interface late { f: func(); }\nworld demo { export late; ");
        assert!(export[0].contains("the export berth:demo/late@0.1.0"), "{export:?}");
    }
}
