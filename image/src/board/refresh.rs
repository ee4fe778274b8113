//! Pins what the archive has now: what `sosna-image lock` does.

use super::Description;
use crate::Error;
use crate::package::{Cache, Lock, Pin};

/// The newest packages that answer a description, as of `epoch` (seconds since 1970); with `fresh` the
/// archive is asked anew.
///
/// # Errors
/// [`Error::Package`]: the archive cannot be asked or lacks one.
pub fn refresh(description: &Description, cache: &Cache, epoch: u64, fresh: bool) -> Result<Lock, Error> {
    let (packages, arch) = (&description.packages, description.architecture.as_str());
    let pin = |package: &str, fresh: bool| {
        let found = cache
            .candidate(&packages.suite, package, arch, fresh)
            .map_err(|source| Error::Package { package: package.to_owned(), source })?;
        let depends = found.depends;
        let pin = Pin {
            name: found.name,
            version: found.version,
            arch: found.arch,
            suite: packages.suite.clone(),
            sha256: found.sha256,
            size: found.size,
            file: found.file,
            source: found.source,
            source_version: found.source_version,
            built_using: found.built_using,
        };
        Ok::<_, Error>((pin, depends))
    };
    let (_, depends) = pin(&packages.kernel, fresh)?;
    // `linux-image-6.12.1+deb13-amd64 (= 6.12.1-1)`
    let kernel = depends
        .split(',')
        .filter_map(|one| one.split_whitespace().next())
        .find(|name| name.starts_with("linux-image-"))
        .ok_or_else(|| Error::malformed(&packages.kernel, "it depends on no kernel"))?;
    let mut pins = vec![pin(kernel, false)?.0];
    for package in &packages.others {
        pins.push(pin(package, false)?.0);
    }
    Ok(Lock { epoch, packages: pins })
}
