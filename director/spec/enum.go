package spec

// unknown is how the zero value of each enum shows itself.
const unknown = "unknown"

func (p Policy) String() string {
	switch p {
	case PolicyGeo:
		return "geo"
	case PolicyFailover:
		return "failover"
	case PolicyWeighted:
		return "weighted"
	case PolicyLatency:
		return "latency"
	default:
		return unknown
	}
}

func (u ResidencyUnknown) String() string {
	switch u {
	case ResidencyUnknownIntersect:
		return "intersect"
	case ResidencyUnknownAllow:
		return "allow"
	default:
		return unknown
	}
}

func (a AllDown) String() string {
	switch a {
	case AllDownAlive:
		return "alive"
	case AllDownAll:
		return "all"
	case AllDownFallback:
		return "fallback"
	default:
		return unknown
	}
}

func (a Automation) String() string {
	switch a {
	case AutomationAct:
		return "act"
	case AutomationObserve:
		return "observe"
	default:
		return unknown
	}
}
