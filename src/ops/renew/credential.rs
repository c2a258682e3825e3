//! A certificate and its key as they are found by the certificate's file: where the key is, and how both are written
//! again with everything around them as it was.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::{
    document::kubeconfig::{self, Edit, KubeconfigError, Material, UserView, View},
    model::{
        algorithm::KeyAlgorithm,
        layout::Place,
        observed::Piece,
        plan::{
            KeyChoice,
            obstacle::{Obstacle, broken},
        },
        shown::{self, with_causes},
    },
    ops::read,
    pki::{
        inspect::{self, Certificate, InspectError},
        key::{KeyError, PrivateKey},
        pem::{self, PemError},
    },
};

/// A file that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where it is.
    pub path: PathBuf,
    /// The same, relative to DIR.
    pub inside: PathBuf,
}

/// A certificate that can be renewed, with its key.
pub struct Renewable {
    file: PathBuf,
    home: Home,
    /// What is in the certificate's file, or under the kubeconfig's field.
    content: Zeroizing<Vec<u8>>,
    certificates: Vec<Certificate>,
    key: Option<PrivateKey>,
}

/// Where the key is.
enum Home {
    /// In a file of its own, relative to DIR, with what is in it.
    Beside { key: PathBuf, content: Zeroizing<Vec<u8>> },
    /// Both are in a kubeconfig, as this user's.
    Kubeconfig { user: String, whole: Zeroizing<Vec<u8>>, key: Zeroizing<Vec<u8>> },
    /// Nobody knows, and it stays.
    Unknown,
    /// In the certificate's file.
    Together,
}

/// What may be a key.
type Octets = Zeroizing<Vec<u8>>;

/// A file's path relative to DIR, its content, and whether it holds a key.
pub type Written = (PathBuf, Octets, bool);

/// Why a file cannot be written again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The kubeconfig.
    #[error("the kubeconfig's credential cannot be replaced")]
    Kubeconfig(#[from] KubeconfigError),
    /// The PEM.
    #[error("its blocks cannot be replaced")]
    Pem(#[from] PemError),
}

impl WriteError {
    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Kubeconfig(error) => error.hint().map(str::to_owned),
            Self::Pem(error) => error.hint(),
        }
    }
}

impl Renewable {
    /// Reads what a named file holds, and finds its key; what stands against it otherwise.
    pub fn read(
        located: &Located,
        key: Option<&Path>,
        dir: &Path,
        is_key_needed: bool,
    ) -> Result<Self, Obstacle> {
        let broken = |why: &str, hint: &str| broken(&located.inside, why, hint);
        let content = match read::file(&located.path) {
            Piece::Present(content) => content,
            Piece::Missing => return Err(broken("is missing", "name a file that is there")),
            Piece::Bad(why) => return Err(broken(&why, "mend that, or name another file")),
        };
        let certificates = match inspect::from_pem(&content) {
            Ok(certificates) => certificates,
            Err(error) => {
                return match kubeconfig::parse(&content) {
                    Ok(view) => Self::in_kubeconfig(located, &view, content),
                    Err(_) => Err(unreadable(located, &error)),
                };
            }
        };
        // There is one at least, or reading them was an error.
        let leaf = &certificates[0];
        let together = key.is_none() && matches!(pem::first_key(&content), Ok(Some(_)));
        let (home, key) = if together {
            let key = PrivateKey::from_pem_for(&content, leaf.public_key());
            (Home::Together, Some(key.map_err(|error| no_key(&located.inside, &error))?))
        } else {
            match Self::beside(located, key, leaf, dir)? {
                Some((home, key)) => (home, Some(key)),
                None if !is_key_needed || leaf.is_ca() => (Home::Unknown, None),
                None => {
                    let tried: Vec<String> = key_names(&located.inside)
                        .iter()
                        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
                        .collect();
                    return Err(broken(
                        &format!(
                            "its key is neither in it nor beside it as {}",
                            tried.join(" or ")
                        ),
                        "name the key with --key FILE, or say --reuse-key to renew the certificate for the \
                         key that it has, wherever that is",
                    ));
                }
            }
        };
        let file = located.inside.clone();
        let credential = Self { file, home, content, certificates, key };
        credential.paired()
    }

    /// The key in a file of its own: the one that is said, or of those beside it the certificate's own.
    fn beside(
        located: &Located,
        said: Option<&Path>,
        leaf: &Certificate,
        dir: &Path,
    ) -> Result<Option<(Home, PrivateKey)>, Obstacle> {
        let candidates = match said {
            Some(path) => vec![super::absolute(path)],
            None => key_names(&located.path).into_iter().filter(|path| path.exists()).collect(),
        };
        let mut first = None;
        for path in candidates {
            let inside = super::inside(dir, &path).unwrap_or_else(|| path.clone());
            let found = match read::file(&path) {
                Piece::Present(content) => PrivateKey::from_pem_for(&content, leaf.public_key())
                    .map(|key| (Home::Beside { key: inside.clone(), content }, key))
                    .map_err(|error| no_key(&inside, &error)),
                Piece::Missing => {
                    Err(broken(&inside, "is missing", "name the key with --key FILE"))
                }
                Piece::Bad(why) => Err(broken(&inside, &why, "name the key with --key FILE")),
            };
            match found {
                Ok((home, key)) if key.public_key() == leaf.public_key() => {
                    return Ok(Some((home, key)));
                }
                // The first that was found is the one to tell of.
                found => first = first.or(Some(found)),
            }
        }
        first.transpose()
    }

    fn in_kubeconfig(
        located: &Located,
        view: &View,
        whole: Zeroizing<Vec<u8>>,
    ) -> Result<Self, Obstacle> {
        let broken = |why: &str, hint: &str| broken(&located.inside, why, hint);
        let only = || match &view.users[..] {
            [user] => Some(user),
            _ => None,
        };
        let Some(user) = view.user(None).or_else(only) else {
            return Err(broken(
                "is a kubeconfig, and none of its users is in use",
                "set its current-context: kubectl config use-context NAME",
            ));
        };
        let (content, key) = embedded(user).map_err(|(why, hint)| broken(&why, hint))?;
        let certificates =
            inspect::from_pem(&content).map_err(|error| unreadable(located, &error))?;
        let private = PrivateKey::from_pem_for(&key, certificates[0].public_key())
            .map_err(|error| no_key(&located.inside, &error))?;
        let home = Home::Kubeconfig { user: user.name.clone(), whole, key };
        let file = located.inside.clone();
        Self { file, home, content, certificates, key: Some(private) }.paired()
    }

    /// The same if certificate and key belong together.
    fn paired(self) -> Result<Self, Obstacle> {
        match &self.key {
            Some(key) if key.public_key() != self.certificate().public_key() => {
                let (file, why) = match &self.home {
                    Home::Beside { key, .. } => {
                        (key, format!("is not the key of {}", self.file.display()))
                    }
                    _ => (&self.file, "its key is another certificate's".to_owned()),
                };
                Err(broken(file, &why, "name its own key with --key FILE, or restore it"))
            }
            _ => Ok(self),
        }
    }

    /// Its file, relative to DIR.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The certificate.
    pub fn certificate(&self) -> &Certificate {
        // Reading gave one at least.
        &self.certificates[0]
    }

    /// What the key in place is.
    pub fn key_algorithm(&self) -> Option<KeyAlgorithm> {
        self.key.as_ref().map(PrivateKey::algorithm)
    }

    /// The key that a new certificate gets unless told otherwise. Two files cannot be replaced at once, and nobody
    /// knows who reads these when; of one file that is no matter.
    pub fn usual_key(&self) -> KeyChoice {
        match self.home {
            Home::Kubeconfig { .. } | Home::Together => KeyChoice::New,
            Home::Beside { .. } | Home::Unknown => KeyChoice::Existing,
        }
    }

    /// Where certificate and key are.
    pub fn place(&self) -> Place {
        let cert = self.file.clone();
        match &self.home {
            Home::Beside { key, .. } => Place::Pair { cert, key: key.clone() },
            Home::Kubeconfig { .. } => Place::Embedded { kubeconfig: cert },
            Home::Together | Home::Unknown => Place::Pair { key: cert.clone(), cert },
        }
    }

    /// The files that change, relative to DIR.
    pub fn files(&self, key: KeyChoice) -> Vec<PathBuf> {
        match (&self.home, key) {
            (Home::Beside { key, .. }, KeyChoice::New) => vec![self.file.clone(), key.clone()],
            _ => vec![self.file.clone()],
        }
    }

    /// What its files are to hold with this certificate, these after it in place of those that follow now, and this
    /// key, where there is a new one. The key comes first.
    pub fn write(
        &self,
        certificate: &Certificate,
        chain: Option<&[Certificate]>,
        key: Option<&PrivateKey>,
    ) -> Result<Vec<Written>, WriteError> {
        let format = self.key.as_ref().map(PrivateKey::format);
        let key = key.zip(format).map(|(key, format)| key.to_pem(format));
        let key = key.as_ref().map(|key| key.as_str());
        let certificate = certificate.to_pem();
        let chain: Option<String> =
            chain.map(|chain| chain.iter().map(Certificate::to_pem).collect());
        let new =
            pem::PemReplacement { certificate: Some(&certificate), chain: chain.as_deref(), key };
        let only_key = pem::PemReplacement { key, ..pem::PemReplacement::default() };
        let without_key = pem::PemReplacement { key: None, ..new };
        match &self.home {
            Home::Together => {
                Ok(vec![(self.file.clone(), pem::replace(&self.content, &new)?, true)])
            }
            Home::Unknown => {
                Ok(vec![(self.file.clone(), pem::replace(&self.content, &without_key)?, false)])
            }
            Home::Beside { key: path, content } => {
                let mut written = Vec::new();
                if key.is_some() {
                    written.push((path.clone(), pem::replace(content, &only_key)?, true));
                }
                let text = pem::replace(&self.content, &without_key)?;
                written.push((self.file.clone(), text, false));
                Ok(written)
            }
            Home::Kubeconfig { user, whole, key: old } => {
                let edit = Edit {
                    user: Some(user.clone()),
                    client_certificate_data: Some(
                        pem::replace(&self.content, &without_key)?.to_vec(),
                    ),
                    client_key_data: match key {
                        Some(_) => Some(pem::replace(old, &only_key)?),
                        None => None,
                    },
                    ..Edit::default()
                };
                Ok(vec![(self.file.clone(), kubeconfig::edit(whole, &edit)?, true)])
            }
        }
    }
}

/// What a kubeconfig's user is, if certificate and key are in it.
fn embedded(user: &UserView) -> Result<(Octets, Octets), (String, &'static str)> {
    match (&user.cert, &user.key) {
        (Some(Material::Data(cert)), Some(Material::Data(key))) => Ok((cert.clone(), key.clone())),
        (Some(Material::File(path)), _) => Err((
            format!("is a kubeconfig that names its certificate's file, {}", shown::name(path)),
            "name that file instead; the kubeconfig stays as it is",
        )),
        (None, _) => Err((
            "is a kubeconfig, and its user has no client certificate".to_owned(),
            "nothing in it ends, or it is renewed by whoever made it",
        )),
        (Some(Material::Data(_)), _) => Err((
            "is a kubeconfig that embeds a certificate and not its key".to_owned(),
            "put both into it, or both into files",
        )),
    }
}

/// Where the key of a certificate in this file usually is, in the order of asking: `NAME.key` as openssl's users and
/// k3s have it, `NAME-key.pem` as cfssl writes it, and what goes with `cert.pem` and `fullchain.pem`.
pub fn key_names(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
    let (own, cfssl) = (format!("{stem}.key"), format!("{stem}-key.pem"));
    let mut names = match ending {
        "pem" => vec![cfssl, own],
        _ => vec![own, cfssl],
    };
    if let Some(stem) = stem.strip_suffix("-cert") {
        names.extend([format!("{stem}-key.pem"), format!("{stem}.key")]);
    }
    if matches!(stem, "cert" | "fullchain") {
        names.extend(["key.pem".to_owned(), "privkey.pem".to_owned()]);
    }
    names.into_iter().map(|name| path.with_file_name(name)).collect()
}

fn unreadable(located: &Located, error: &InspectError) -> Obstacle {
    let hint = error.hint().unwrap_or_else(|| {
        "name a PEM file with a certificate, or a kubeconfig that embeds one".to_owned()
    });
    broken(&located.inside, &with_causes(error), &hint)
}

fn no_key(file: &Path, error: &KeyError) -> Obstacle {
    let hint = error.hint().unwrap_or_else(|| "name its key with --key FILE".to_owned());
    broken(file, &with_causes(error), &hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_looked_for_where_people_and_programs_put_them() {
        for (file, key) in [
            ("/k/server.crt", "/k/server.key"),
            ("/k/kubernetes.pem", "/k/kubernetes-key.pem"),
            ("/k/node.pem", "/k/node.key"),
            ("/k/api-cert.pem", "/k/api-key.pem"),
            ("/k/fullchain.pem", "/k/privkey.pem"),
            ("/k/cert.pem", "/k/key.pem"),
            ("/k/client.cert", "/k/client.key"),
        ] {
            let names = key_names(Path::new(file));
            assert!(names.contains(&PathBuf::from(key)), "{file}: {names:?}");
        }
    }
}
