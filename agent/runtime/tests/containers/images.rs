//! Images that are made to have something done to the machine: links and files where the runtime mounts, makes and keeps
//! things. Whatever comes of the container, the machine is as it was.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use sosna_runtime::{ContainerSpec, EndCause, Input};

use crate::Env;

pub(crate) const ALL: &[crate::Case] = &[
    ("links_where_things_are_mounted_lead_nowhere", links_where_things_are_mounted),
    ("links_where_things_are_given_and_kept_lead_nowhere", links_where_things_are_given_and_kept),
    ("what_an_output_leads_to_is_the_containers", outputs_through_links),
    ("nothing_is_told_of_what_lies_above_the_root", what_lies_above_the_root),
    ("no_library_of_the_image_is_loaded_before_the_filters_are", libraries_of_the_image),
];

/// A folder of the host's that images lead to; and in the container, where the same path is another folder.
struct Victim {
    folder: tempfile::TempDir,
}

impl Victim {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "the host's").unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn assert_untouched(&self, what: &str) {
        let mut names: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "folder"], "{what}");
        assert_eq!(fs::read(self.path().join("file")).unwrap(), b"the host's", "{what}");
        assert_eq!(fs::read_dir(self.path().join("folder")).unwrap().count(), 0, "{what}");
    }
}

/// A layer of an image, made for one container.
fn layer(env: &Env, name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let folder = env.folder.join("images").join(name.replace('/', "-"));
    fs::create_dir_all(&folder).unwrap();
    make(&folder);
    folder
}

/// How a container on such an image ends: of itself, or not begun, in words for a person.
fn ends(env: &Env, what: &str, spec: &ContainerSpec) -> bool {
    let (record, out, err) = env.run(spec);
    match &record.cause {
        EndCause::Exited { code: 0 } => true,
        EndCause::StartFailed { message } => {
            assert_eq!(record.exit_code, 125, "{what}: {record:?}");
            assert!(message.contains("in the image, where none may be"), "{what}: {message}");
            false
        }
        other => panic!("{what}: {other:?} {out} {err}"),
    }
}

fn links_where_things_are_mounted(env: &Env) {
    let victim = Victim::new();
    let mut refused = 0;
    for place in ["proc", "dev", "sys", "tmp", "etc", "run", "var", "root"] {
        for (kind, target) in [
            ("link", Some(victim.path().to_owned())),
            ("relative", Some(Path::new("../../../../..").join(victim.path().strip_prefix("/").unwrap()))),
            ("dangling", Some(victim.path().join("none"))),
            ("loop", Some(Path::new("/").join(place))),
            ("file", None),
        ] {
            let what = format!("{place} is a {kind}");
            let top = layer(env, &what, |layer| match &target {
                Some(target) => symlink(target, layer.join(place)).unwrap(),
                None => fs::write(layer.join(place), "").unwrap(),
            });
            for read_only_root in [true, false] {
                let mut spec = env.script("true");
                spec.layers.push(top.clone());
                spec.read_only_root = read_only_root;
                refused += u32::from(!ends(env, &what, &spec));
                victim.assert_untouched(&what);
            }
        }
    }
    assert!(refused > 0, "an image without a place for /proc makes no container");

    // The folder that /dev leads to is in the image, and on the machine.
    let shared = tempfile::tempdir().unwrap();
    let top = layer(env, "dev leads to what is there", |layer| {
        fs::create_dir_all(layer.join(shared.path().strip_prefix("/").unwrap())).unwrap();
        symlink(shared.path(), layer.join("dev")).unwrap();
    });
    let mut spec = env.script("true");
    spec.layers.push(top);
    spec.read_only_root = false;
    assert!(!ends(env, "/dev leads to what is there", &spec));
    assert_eq!(fs::read_dir(shared.path()).unwrap().count(), 0, "links of /dev are on the machine");
}

fn links_where_things_are_given_and_kept(env: &Env) {
    let victim = Victim::new();
    let at = victim.path().display();
    let top = layer(env, "ways", |layer| {
        symlink(victim.path(), layer.join("way")).unwrap();
        symlink(victim.path().join("file"), layer.join("direct")).unwrap();
        symlink("/way/folder", layer.join("twice")).unwrap();
        fs::write(layer.join("plain"), "").unwrap();
    });
    let input = env.folder.join("an-input");
    fs::write(&input, "an input").unwrap();
    for place in ["/way/new", "/way/file", "/way/folder", "/way/a/b", "/twice/new", "/direct", "/plain/new"] {
        for read_only_root in [true, false] {
            let spec = |script: &str| {
                let mut spec = env.script(script);
                spec.layers.push(top.clone());
                spec.read_only_root = read_only_root;
                spec
            };
            let mut given = spec("true");
            given.inputs = vec![Input { source: input.clone(), destination: place.into() }];
            ends(env, &format!("an input at {place}"), &given);
            victim.assert_untouched(&format!("an input at {place}, {at}"));

            let mut works = spec("true");
            works.cwd = place.into();
            ends(env, &format!("works in {place}"), &works);
            victim.assert_untouched(&format!("works in {place}"));

            let mut keeps = spec(&format!("echo mine > {place}/x; echo mine > {place}; true"));
            keeps.outputs = vec![format!("{place}/"), place.to_owned()];
            ends(env, &format!("keeps {place}"), &keeps);
            victim.assert_untouched(&format!("keeps {place}"));
        }
    }
}

fn outputs_through_links(env: &Env) {
    let victim = Victim::new();
    let at = victim.path().display();
    // In the container the victim's path is the task's own; what is kept of it must not reach the host's.
    let script = format!("mkdir -p {at}; echo mine > {at}/file; echo mine > {at}/new");
    for outputs in [["/out/a", "/out/a/file"], ["/out/a/new", "/out/a"], ["/out/", "/out/a/file"]] {
        let mut spec = env.script(&format!("{script}; rm -rf /out/a; ln -s {at} /out/a; true"));
        spec.read_only_root = false;
        spec.outputs = ["/out/"].into_iter().chain(outputs).map(str::to_owned).collect();
        let (record, _, err) = env.run(&spec);
        assert_eq!(record.cause, EndCause::Exited { code: 0 }, "{err}");
        assert_eq!(record.not_kept, None);
        victim.assert_untouched(&format!("{outputs:?}"));
        let kept: Vec<_> = record.outputs.iter().map(|o| o.path.as_str()).collect();
        assert_eq!(kept, ["out", "out/a"], "{outputs:?}");
        assert_eq!(record.output_problems.len(), 1, "{:?}", record.output_problems);
    }
    // Named without the folder around: kept from where the link leads within the container.
    let mut spec = env.script(&format!("{script}; rm -rf /out/a; ln -s {at} /out/a; true"));
    spec.read_only_root = false;
    spec.outputs = vec!["/out/a/file".into(), "/out/a/new".into()];
    let (record, ..) = env.run(&spec);
    victim.assert_untouched("named one by one");
    let folder = env.runtime.task_dir(&spec.id).join("outputs/out");
    let kept: Vec<_> = record.outputs.iter().map(|o| o.path.as_str()).collect();
    assert_eq!(kept, ["out/a/file", "out/a/new"]);
    assert!(!fs::symlink_metadata(folder.join("a")).unwrap().is_symlink());
    assert_eq!(fs::read(folder.join("a/file")).unwrap(), b"mine\n");

    // As a buyer's task has it: its root is read-only, and where it writes is mounted. What is mounted cannot be renamed, and
    // the folder above it can. The image has the victim's path.
    let inner = victim.path().join("folder");
    let top = layer(env, "of the victim", |layer| {
        let same = layer.join(inner.strip_prefix("/").unwrap());
        fs::create_dir_all(&same).unwrap();
        fs::write(same.join("x"), "of the image").unwrap();
    });
    let mut spec = env.script(&format!("mv /out/a /out/old && ln -s {at} /out/a && echo moved; true"));
    spec.layers.push(top);
    spec.cwd = "/out".into();
    spec.outputs = vec!["/out".into(), "/out/a/folder/x".into()];
    let (record, out, err) = env.run(&spec);
    assert_eq!((out.as_str(), &record.cause), ("moved\n", &EndCause::Exited { code: 0 }), "{err}");
    victim.assert_untouched("with a read-only root");
    assert!(record.outputs.iter().any(|o| o.path == "out/a"), "{:?}", record.outputs);
}

/// Of a folder above the container's root nothing is told.
fn what_lies_above_the_root(env: &Env) {
    // A file in the image, where the container was to work, and one on the host.
    for place in ["/etc/passwd", "/etc/passwd/x"] {
        let mut spec = env.script("true");
        spec.cwd = format!("{}{place}", "/..".repeat(8));
        let (record, ..) = env.run(&spec);
        let EndCause::StartFailed { message } = &record.cause else { panic!("{record:?}") };
        assert!(!message.contains("where none may be"), "{message}");
    }
}

/// glibc asks the image's own libraries who a user is, where the image says so: what is loaded so would run without the
/// filters, and with the shim's descriptors.
fn libraries_of_the_image(env: &Env) {
    let source = env.folder.join("nss.c");
    let text = r#"#include <unistd.h>
__attribute__((constructor)) static void run(void) { write(1, "loaded\n", 7); }
"#;
    fs::write(&source, text).unwrap();
    let library = env.folder.join("libnss_x.so.2");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).status();
    assert!(made.expect("a C compiler is needed for the tests").success());
    let top = layer(env, "a library", |layer| {
        fs::create_dir_all(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/nsswitch.conf"), "passwd: x\ngroup: x\n").unwrap();
        fs::write(layer.join("etc/passwd"), "").unwrap();
        for folder in ["lib", "usr/lib", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"] {
            // A layer above must not hide the folders that the loader is in.
            if env.layers[0].join(folder).is_dir() {
                fs::create_dir_all(layer.join(folder)).unwrap();
                fs::copy(&library, layer.join(folder).join("libnss_x.so.2")).unwrap();
            }
        }
    });
    for given in [vec![], vec!["HOME=".to_owned()], vec!["HOME=".to_owned(), "HOME=/x".to_owned()]] {
        let mut spec = env.script("echo \"home $HOME\"");
        spec.layers.push(top.clone());
        spec.env.extend(given.clone());
        let (record, out, err) = env.run(&spec);
        let home = if given.len() == 2 { "/x" } else { "/" };
        assert_eq!((out, record.exit_code), (format!("home {home}\n"), 0), "{given:?}: {err}");
    }
}
