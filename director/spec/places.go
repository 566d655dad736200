package spec

import "strings"

// continentCodes are the continents as the geo tables name them.
func continentCodes() []string {
	return []string{"AF", "AN", "AS", "EU", "NA", "OC", "SA"}
}

// countriesOf returns the ISO 3166-1 codes of a continent (and XK, which is in
// use), as GeoNames groups them. It serves checks only: where clients are is
// the geo table's to say.
func countriesOf(continent string) string {
	switch continent {
	case "AF":
		return "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW KE KM LR LS LY MA MG ML MR MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TG TN TZ UG YT ZA ZM ZW"
	case "AN":
		return "AQ BV GS HM TF"
	case "AS":
		return "AE AF AM AZ BD BH BN BT CC CN GE HK ID IL IN IO IQ IR JO JP KG KH KP KR KW KZ LA LB LK MM MN MO MV MY NP OM PH PK PS QA SA SG SY TH TJ TM TR TW UZ VN YE"
	case "EU":
		return "AD AL AT AX BA BE BG BY CH CY CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK"
	case "NA":
		return "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM PR SV SX TC TT US VC VG VI"
	case "OC":
		return "AS AU CK CX FJ FM GU KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TL TO TV UM VU WF WS"
	case "SA":
		return "AR BO BR CL CO EC FK GF GY PE PY SR UY VE"
	default:
		return ""
	}
}

// continentOf returns the continent of a country, false where there is no such
// country.
func continentOf(country string) (string, bool) {
	if len(country) != 2 || !isCapital(country[0]) || !isCapital(country[1]) {
		return "", false
	}
	for _, continent := range continentCodes() {
		// Codes stand apart by spaces, so two capitals match whole codes only.
		if strings.Contains(countriesOf(continent), country) {
			return continent, true
		}
	}
	return "", false
}

func isCapital(b byte) bool { return 'A' <= b && b <= 'Z' }
