//! Where the repository and its `target` folder are. Everything that xtask makes lies under `target`.

use std::env;
use std::path::{Path, PathBuf};

/// The work tree and its build folder.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    /// The tree that this program was built from; the build folder honours `CARGO_TARGET_DIR`.
    ///
    /// # Errors
    /// When the current directory, against which a relative `CARGO_TARGET_DIR` counts, cannot be read.
    pub fn find() -> std::io::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Another tree, with its build folder within.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_path_buf(), target: root.join("target") }
    }

    /// The repository's top folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's build folder.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Tools and packages that were obtained for the tests, kept between runs.
    #[must_use]
    pub fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// What stages printed.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.target.join("xtask")
    }

    /// What the demo makes.
    #[must_use]
    pub fn demo(&self) -> PathBuf {
        self.target.join("demo")
    }
}
