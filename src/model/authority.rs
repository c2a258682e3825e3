//! A CA through time: its generations, of which one issues and several may be trusted, and the stage of replacing one
//! by the next. All of it is read from the files: what is not written there is not so.

use std::path::PathBuf;

pub use super::stage::{Slot, Stage};
use super::{
    catalogue::Home,
    layout::Layout,
    observed::{CertView, Observed},
    stage::beside,
};

impl Slot {
    /// The file of a certificate by which the generation that issued before vouches for the one that follows it.
    pub fn cross(home: &Home) -> Option<PathBuf> {
        match home {
            Home::Authority { cert, .. } => Some(beside(cert, "cross")),
            Home::Files { .. } | Home::Kubeconfig { .. } => None,
        }
    }

    /// The files of a CA's certificate and key of this generation.
    pub fn pair(self, home: &Home) -> Option<(PathBuf, PathBuf)> {
        match home {
            Home::Authority { cert, key, .. } => Some((self.file(cert), self.file(key))),
            Home::Files { .. } | Home::Kubeconfig { .. } => None,
        }
    }
}

/// One step of replacing a generation by the next, or of taking that back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// What is trusted gets a file of its own.
    Split,
    /// What signs is what is trusted again.
    Join,
    /// The next generation is made, and trusted.
    Introduce,
    /// The next generation issues, and everything is issued anew by it.
    Switch,
    /// The generation before is trusted no longer.
    Drop,
    /// The next generation is trusted no longer: it never issued.
    TakeBack,
    /// The generation before issues again.
    SwitchBack,
}

impl Move {
    /// What leads on from a stage.
    pub fn onward(stage: Stage) -> Self {
        match stage {
            Stage::Shared => Self::Split,
            Stage::Stable => Self::Introduce,
            Stage::Introduced => Self::Switch,
            Stage::Switched => Self::Drop,
        }
    }

    /// What leads back from a stage; nothing from where it began. Where that was is not told by the stage: clusters that
    /// something else made began as [`Stage::Shared`].
    pub fn back(stage: Stage) -> Option<Self> {
        match stage {
            Stage::Shared | Stage::Stable => None,
            Stage::Introduced => Some(Self::TakeBack),
            Stage::Switched => Some(Self::SwitchBack),
        }
    }

    /// The stage it leads to.
    pub fn end(self) -> Stage {
        match self {
            Self::Introduce | Self::SwitchBack => Stage::Introduced,
            Self::Switch => Stage::Switched,
            Self::Drop | Self::TakeBack | Self::Split => Stage::Stable,
            Self::Join => Stage::Shared,
        }
    }

    /// Which generation of now issues afterwards.
    pub fn issuer(self) -> Slot {
        match self {
            Self::Split | Self::Join | Self::Introduce | Self::Drop | Self::TakeBack => {
                Slot::Active
            }
            Self::Switch => Slot::Next,
            Self::SwitchBack => Slot::Previous,
        }
    }

    /// Whether only the file changes from which it is trusted, and no generation.
    pub fn moves_trust(self) -> bool {
        matches!(self, Self::Split | Self::Join)
    }

    /// Whether everything is issued anew.
    pub fn reissues(self) -> bool {
        self.issuer() != Slot::Active
    }
}

/// A CA as it was found.
#[derive(Clone, Debug)]
pub struct Generations<'o> {
    /// The one that issues.
    pub active: Option<&'o CertView>,
    /// The one that is to issue next.
    pub next: Option<&'o CertView>,
    /// The one that issued before.
    pub previous: Option<&'o CertView>,
    /// All that is trusted in its place.
    pub trusted: &'o [CertView],
    /// Whether that is its own file, though verifiers of it could have one of their own.
    pub is_shared: bool,
}

impl<'o> Generations<'o> {
    /// Those of the CA with this index.
    pub fn of(layout: &Layout<'_>, observed: &'o Observed, authority: usize) -> Self {
        let aside = |slot| {
            observed.aside.get(&(authority, slot)).and_then(super::observed::Held::certificate)
        };
        Self {
            active: observed.instances[authority].certificate(),
            next: aside(Slot::Next),
            previous: aside(Slot::Previous),
            trusted: trusted(layout, observed, authority),
            is_shared: has_bundle(layout, authority) && layout.bundle_of(authority).is_none(),
        }
    }

    /// How far replacing it has come. A second CA that is trusted and that nothing else is known of was replaced by
    /// somebody else.
    pub fn stage(&self) -> Stage {
        let is_active = |ca: &CertView| self.active.is_some_and(|own| own.der == ca.der);
        match (self.next, self.previous) {
            (Some(_), _) => Stage::Introduced,
            (None, Some(_)) => Stage::Switched,
            (None, None) if self.is_shared => Stage::Shared,
            (None, None) if self.trusted.iter().any(|ca| !is_active(ca)) => Stage::Switched,
            (None, None) => Stage::Stable,
        }
    }

    /// The one in this slot.
    pub fn get(&self, slot: Slot) -> Option<&'o CertView> {
        match slot {
            Slot::Active => self.active,
            Slot::Next => self.next,
            Slot::Previous => self.previous,
        }
    }

    /// Those that are trusted besides the active one.
    pub fn others(&self) -> impl Iterator<Item = &'o CertView> {
        let active = self.active;
        self.trusted.iter().filter(move |ca| active.is_none_or(|own| own.der != ca.der))
    }
}

/// Whether the catalogue has a bundle of this CA, whatever a cluster does without.
pub fn has_bundle(layout: &Layout<'_>, authority: usize) -> bool {
    matches!(layout.instances[authority].spec.home, Home::Authority { bundle: Some(_), .. })
}

/// What verifiers of a CA trust here: what its bundle holds, else what its own file does.
pub fn trusted<'o>(
    layout: &Layout<'_>,
    observed: &'o Observed,
    authority: usize,
) -> &'o [CertView] {
    let bundle = layout.bundle_of(authority).and_then(|at| observed.derived[at].present());
    let own = || observed.instances[authority].certificates.present();
    bundle.or_else(own).map(|all| all.as_slice()).unwrap_or_default()
}

/// The common name of the generation after this one: `kubernetes`, `kubernetes-g2`, `kubernetes-g3`. People and
/// reports can tell them apart, and so can who reads the list of accepted CAs off a listener.
pub fn successor(common_name: &str) -> String {
    let numbered = common_name.rsplit_once("-g").and_then(|(stem, number)| {
        let number: u32 = number.parse().ok().filter(|number| *number > 1)?;
        Some((stem, number))
    });
    match numbered {
        Some((stem, number)) => format!("{stem}-g{}", number.saturating_add(1)),
        None => format!("{common_name}-g2"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_has_a_name_of_its_own() {
        assert_eq!(successor("kubernetes"), "kubernetes-g2");
        assert_eq!(successor("kubernetes-g2"), "kubernetes-g3");
        assert_eq!(successor("my-group"), "my-group-g2");
        assert_eq!(successor("ca-g1"), "ca-g1-g2");
    }

    #[test]
    fn what_leads_on_is_led_back_by_what_leads_back() {
        assert_eq!(Move::onward(Stage::Shared).end(), Stage::Stable);
        for stage in [Stage::Stable, Stage::Introduced] {
            let onward = Move::onward(stage);
            assert_eq!(Move::back(onward.end()).map(Move::end), Some(stage));
        }
        assert_eq!(Move::back(Stage::Stable), None);
    }

    #[test]
    fn generations_stand_beside_each_other() {
        assert_eq!(Slot::Next.file("pki/etcd/ca.crt"), PathBuf::from("pki/etcd/ca-next.crt"));
        assert_eq!(Slot::Previous.file("pki/sa.key"), PathBuf::from("pki/sa-previous.key"));
        assert_eq!(Slot::Active.file("pki/sa.key"), PathBuf::from("pki/sa.key"));
    }
}
