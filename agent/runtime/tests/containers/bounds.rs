//! An agent that was taken over: what it may name, and what it may not, where its word is not enough.

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sosna_runtime::{ContainerSpec, EndCause, Input, Runtime, RuntimeError, Sources};

use crate::{Env, config, rootfs};

pub(crate) const ALL: &[crate::Case] = &[("what_an_agent_may_name", what_an_agent_may_name)];

/// The agent's user.
const AGENT: u32 = 1_073_000_001;

struct Bounded {
    folder: PathBuf,
    layers: Vec<PathBuf>,
    runtime: Runtime,
}

impl Bounded {
    fn new(env: &Env) -> Self {
        let folder = env.folder.join("bounded");
        let (layers, inputs) = (folder.join("layers"), folder.join("inputs"));
        fs::create_dir_all(&layers).unwrap();
        fs::create_dir_all(inputs.join("ab")).unwrap();
        let built = rootfs::build(&folder.join("built"));
        let named = |(n, from): (usize, &PathBuf)| {
            let to = layers.join(format!("{n:064x}"));
            fs::rename(from, &to).unwrap();
            to
        };
        let layers: Vec<_> = built.iter().enumerate().map(named).collect();
        fs::write(inputs.join("ab/file"), "an input").unwrap();
        fs::set_permissions(inputs.join("ab/file"), fs::Permissions::from_mode(0o600)).unwrap();
        for path in ["", "ab", "ab/file"] {
            chown(inputs.join(path), Some(AGENT), Some(AGENT)).unwrap();
        }
        let mut config = config(&folder);
        config.reader = Some(AGENT);
        config.sources = Some(Sources { layers: folder.join("layers"), inputs });
        config.most = Some(env.script("true").limits);
        let runtime = Runtime::open(config).unwrap();
        Self { folder, layers, runtime }
    }

    fn spec(&self, env: &Env, script: &str) -> ContainerSpec {
        ContainerSpec { layers: self.layers.clone(), ..env.script(script) }
    }

    fn end(&self, env: &Env, spec: &ContainerSpec) -> EndCause {
        let record = env.tokio.block_on(async {
            self.runtime.start(spec).await.unwrap();
            self.runtime.wait(&spec.id).await.unwrap()
        });
        record.cause
    }

    fn refused(&self, env: &Env, what: &str, spec: &ContainerSpec) {
        let end = self.end(env, spec);
        let EndCause::StartFailed { message } = &end else { panic!("{what}: {end:?}") };
        let known = ["is not of", "cannot open", "symbolic links"];
        assert!(known.iter().any(|words| message.contains(words)), "{what}: {message}");
    }

    /// A helper of this runtime, as an order would start it.
    fn helper(&self, mode: &str, id: &str, input: &[u8]) -> String {
        let mut helper = Command::new(std::env::current_exe().unwrap())
            .arg0("sosna-shim")
            .arg(mode)
            .arg(self.folder.join("state"))
            .arg(id)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // One that has nothing to read may have ended by now.
        let _ = helper.stdin.take().unwrap().write_all(input);
        String::from_utf8(helper.wait_with_output().unwrap().stdout).unwrap()
    }
}

fn what_an_agent_may_name(env: &Env) {
    let at = Bounded::new(env);
    let input = |path: &Path| vec![Input { source: path.to_owned(), destination: "/in".into() }];
    let inputs = at.folder.join("inputs");

    // What it should: its input is root's in the container, and what the container leaves is for it to read.
    let mut spec = at.spec(env, "stat -c %u:%g:%a /in; cat /in; echo kept > /out/file; chmod 600 /out/file");
    (spec.inputs, spec.outputs) = (input(&inputs.join("ab/file")), vec!["/out/".into()]);
    assert_eq!(at.end(env, &spec), EndCause::Exited { code: 0 });
    let task = at.runtime.task_dir(&spec.id);
    assert_eq!(fs::read_to_string(task.join("stdout")).unwrap(), "0:0:600\nan input");
    for name in ["", "exit.json", "stdout", "outputs", "outputs/out", "outputs/out/file"] {
        let meta = fs::metadata(task.join(name)).unwrap();
        let mode = meta.mode() & 0o777;
        assert_eq!((meta.uid(), meta.gid()), (0, AGENT), "{name}");
        assert!(mode & 0o040 != 0 && mode & 0o022 == 0, "{name}: {mode:o}");
    }
    assert_eq!(fs::metadata(&task).unwrap().mode() & 0o007, 0, "closed to everybody else");

    let mut spec = at.spec(env, "true");
    spec.layers = env.layers.clone();
    at.refused(env, "layers of elsewhere", &spec);
    let link = at.folder.join("layers").join("f".repeat(64));
    symlink("/", &link).unwrap();
    let mut spec = at.spec(env, "true");
    spec.layers.push(link);
    at.refused(env, "a layer that is a link", &spec);
    let mut spec = at.spec(env, "true");
    spec.layers.push(at.folder.join("layers/../../layers"));
    at.refused(env, "a layer by a detour", &spec);

    // All that whoever has the folder of inputs can put there.
    let secret = at.folder.join("secret");
    fs::write(&secret, "of root").unwrap();
    symlink(&secret, inputs.join("ab/link")).unwrap();
    symlink(&at.folder, inputs.join("folder")).unwrap();
    fs::hard_link(&secret, inputs.join("ab/name")).unwrap();
    for (what, path) in [
        ("an input of elsewhere", secret.clone()),
        ("a detour", inputs.join("ab/../../secret")),
        ("a link", inputs.join("ab/link")),
        ("a folder that is a link", inputs.join("folder/secret")),
        ("another name of root's file", inputs.join("ab/name")),
        ("a folder", inputs.join("ab")),
        ("all inputs", inputs.clone()),
        ("nothing", inputs.join("ab/nothing")),
    ] {
        let mut spec = at.spec(env, "cat /in");
        spec.inputs = input(&path);
        at.refused(env, what, &spec);
    }

    // Orders that the agent itself would not give.
    let spec = at.spec(env, "echo ready; sleep 0.7");
    env.tokio.block_on(at.runtime.start(&spec)).unwrap();
    let id = spec.id.as_str();
    assert!(at.helper("remove", id, b"").contains("conflict"));
    assert_eq!(at.helper("settle", id, b""), "{\"done\":[]}\n");
    assert_eq!(at.helper("settle", "", b""), "{\"done\":[]}\n");
    let other = serde_json::to_vec(&at.spec(env, "true")).unwrap();
    assert!(at.helper("run", id, &other).contains("conflict"));
    let record = env.tokio.block_on(at.runtime.wait(&spec.id)).unwrap();
    assert_eq!(record.cause, EndCause::Exited { code: 0 }, "it went on");
    for mode in ["run", "settle", "remove"] {
        let said = at.helper(mode, "../tasks", b"{}");
        assert!(said.contains("failed") && said.contains("not a container id"), "{mode}: {said}");
    }
    for text in [&b""[..], b"{", b"[]", &vec![b'x'; 1 << 20]] {
        assert!(at.helper("run", "new", text).contains("failed"));
    }
    let mut spec = at.spec(env, "true");
    spec.limits.memory_bytes += 1;
    let said = at.helper("run", spec.id.as_str(), &serde_json::to_vec(&spec).unwrap());
    assert!(said.contains("failed") && said.contains("more memory than the device lends"), "{said}");
    let refused = env.tokio.block_on(at.runtime.start(&spec)).unwrap_err();
    assert!(matches!(refused, RuntimeError::BadSpec { field: "limits", .. }), "{refused:?}");
    assert!(!at.folder.join("data/tasks/new").exists());

    // Another agent's container is not within reach, whatever name is known of it.
    let theirs = env.script("echo ready; sleep 1; echo done");
    env.tokio.block_on(env.runtime.start(&theirs)).unwrap();
    env.until_written(&theirs.id, "ready");
    assert_eq!(at.helper("settle", theirs.id.as_str(), b""), "{\"done\":[]}\n");
    let of_this_name = ContainerSpec { id: theirs.id.clone(), ..at.spec(env, "true") };
    assert_eq!(at.end(env, &of_this_name), EndCause::Exited { code: 0 });
    env.tokio.block_on(at.runtime.remove(&theirs.id)).unwrap();
    let record = env.tokio.block_on(env.runtime.wait(&theirs.id)).unwrap();
    assert_eq!(record.cause, EndCause::Exited { code: 0 }, "it went on");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "of root");
}
