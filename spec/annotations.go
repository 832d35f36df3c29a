package spec

// Annotations of config.json that sock itself obeys.
const (
	// AnnotationProfile chooses the profile of fast paths: "standard" or "lean".
	AnnotationProfile = annotationPrefix + "profile"
	// AnnotationNet chooses what stands in for a network namespace under the lean profile: "host", "shared" or "stock".
	AnnotationNet = annotationPrefix + "net"
	// AnnotationScratch names the places that stay writable above a read-only root under the lean profile.
	AnnotationScratch = annotationPrefix + "scratch"

	annotationPrefix = "dev.sock."
)

// SettingsFile has what holds for all containers of a host, package settings: which profiles an annotation may choose, too.
const SettingsFile = "/etc/sock/config.toml"
