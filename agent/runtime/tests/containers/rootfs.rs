//! A root file system of two layers, made of this machine's own programs, so that no network is needed.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

const PROGRAMS: [&str; 23] = [
    "cat", "chmod", "dd", "env", "grep", "head", "id", "ln", "ls", "mkdir", "mkfifo", "mount", "mv", "rm",
    "setsid", "sh", "sleep", "stat", "touch", "true", "unshare", "yes", "readlink",
];

/// Makes both layers below `folder`, bottom first.
pub(crate) fn build(folder: &Path) -> Vec<PathBuf> {
    let (bottom, top) = (folder.join("bottom"), folder.join("top"));
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "data/nested", "gone"] {
        fs::create_dir_all(bottom.join(name)).unwrap();
    }
    fs::set_permissions(bottom.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let mut libraries = BTreeSet::new();
    let probe = ("probe", std::env::current_exe().unwrap());
    for (name, path) in PROGRAMS.map(|name| (name, which(name))).into_iter().chain([probe]) {
        fs::copy(&path, bottom.join("bin").join(name)).unwrap();
        let output = Command::new("ldd").arg(&path).output().expect("ldd is part of glibc");
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|w| w.starts_with('/'))
        {
            libraries.insert(PathBuf::from(word));
        }
    }
    for library in libraries {
        let to = bottom.join(library.strip_prefix("/").unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&library, &to).unwrap();
    }
    fs::write(bottom.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n").unwrap();
    fs::write(bottom.join("etc/layer"), "bottom").unwrap();
    fs::write(bottom.join("bin/not-executable"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(bottom.join("bin/not-executable"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(bottom.join("bin/bad-interpreter"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(bottom.join("bin/bad-interpreter"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(bottom.join("data/file"), "from the image").unwrap();

    fs::create_dir_all(top.join("etc")).unwrap();
    fs::write(top.join("etc/layer"), "top").unwrap();
    // A way out, if somebody followed it: an output folder that is a link to the host.
    std::os::unix::fs::symlink("/etc", top.join("escape")).unwrap();
    vec![bottom, top]
}

fn which(name: &str) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin"]);
    let found = folders.map(|d| Path::new(d).join(name)).find(|p| p.is_file());
    fs::canonicalize(found.unwrap_or_else(|| panic!("the tests need the program '{name}'"))).unwrap()
}
