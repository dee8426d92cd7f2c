"""The core lexicon, the most frequent words. Umlauts are spelt ae, oe, ue and sharp s as ss.

NOUNS: domain, then entries `gender source source-plural translations`; the more frequent first.
A source word that stands under two domains is ambiguous: `schloss` is a castle or a lock, `birne` a pear or a
bulb.
"""

NOUNS = {
    "person": """
        m mann maenner man:men/fellow; f frau frauen woman:women/lady; n kind kinder child:children/kid
        m lehrer lehrer teacher; f aerztin aerztinnen doctor/physician; m freund freunde friend
        f nachbarin nachbarinnen neighbour; m koch koeche cook/chef; m leiter leiter manager/boss
        f mutter muetter mother/mum; f tochter toechter daughter; m bauer bauern farmer
        m dieb diebe thief:thieves; m arbeiter arbeiter worker; f koenigin koeniginnen queen
        m maler maler painter/artist; m gast gaeste guest/visitor; m richter richter judge
        f schwester schwestern sister; m sohn soehne son/boy""",
    "animal": """
        m hund hunde dog; f katze katzen cat; n pferd pferde horse; m vogel voegel bird
        f schlange schlangen snake/serpent; f kuh kuehe cow; m hahn haehne rooster/cock
        n schaf schafe sheep:sheep; m wolf woelfe wolf:wolves; m strauss strausse ostrich
        f maus maeuse mouse:mice; m baer baeren bear""",
    "food": """
        m apfel aepfel apple; m kuchen kuchen cake; f suppe suppen soup; f birne birnen pear
        n ei eier egg; n gericht gerichte dish/meal; f scheibe scheiben slice/piece
        f kartoffel kartoffeln potato:potatoes; f wurst wuerste sausage; f linse linsen lentil
        n brot brote loaf:loaves""",
    "clothes": """
        m mantel maentel coat; n hemd hemden shirt; m hut huete hat; m schuh schuhe shoe
        n kleid kleider dress/gown; m ring ringe ring; m guertel guertel belt; f muetze muetzen cap
        m absatz absaetze heel; f tasche taschen bag/purse""",
    "tool": """
        m schluessel schluessel key; n messer messer knife:knives; m hammer haemmer hammer
        f leiter leitern ladder; f lampe lampen lamp; n schloss schloesser lock; f birne birnen bulb
        m hahn haehne tap; f mutter muttern nut; n seil seile rope/cord; m schalter schalter switch
        f linse linsen lens; f feder federn spring; m ball baelle ball""",
    "vehicle": """
        n auto autos car/automobile; m zug zuege train; n schiff schiffe ship/vessel
        n fahrrad fahrraeder bicycle/bike; m bus busse bus; n flugzeug flugzeuge plane/aircraft:aircraft
        n boot boote boat; m wagen wagen wagon/cart""",
    "building": """
        n haus haeuser house/home; f schule schulen school; f kirche kirchen church
        n zimmer zimmer room/chamber; n schloss schloesser castle/palace; f tuer tueren door
        n fenster fenster window; n tor tore gate; f bruecke bruecken bridge; m turm tuerme tower
        f decke decken ceiling; f kapelle kapellen chapel; f scheibe scheiben pane""",
    "institution": """
        f firma firmen company/firm; f bank banken bank; n gericht gerichte court; f partei parteien party
        m verein vereine club/association; f kapelle kapellen band; f behoerde behoerden authority/agency
        f schlange schlangen queue/line; n heer heere army; m schalter schalter counter""",
    "furniture": """
        m tisch tische table; m stuhl stuehle chair; n bett betten bed; f bank baenke bench
        m schrank schraenke cupboard; m spiegel spiegel mirror; m fluegel fluegel grand_piano
        f decke decken blanket/cover; n bild bilder picture/painting""",
    "text": """
        n buch buecher book/volume; m brief briefe letter; f zeitung zeitungen newspaper/paper
        f geschichte geschichten story/tale; f karte karten map; n gesetz gesetze law
        m vertrag vertraege contract/agreement; n blatt blaetter sheet; n gedicht gedichte poem
        m absatz absaetze paragraph; m pass paesse passport""",
    "plant": """
        m baum baeume tree; f blume blumen flower/blossom; n blatt blaetter leaf:leaves; f rose rosen rose
        m strauss straeusse bouquet; f kiefer kiefern pine; m busch buesche bush/shrub
        f wurzel wurzeln root""",
    "place": """
        f stadt staedte city/town; m garten gaerten garden; m wald waelder forest/wood
        n dorf doerfer village; f strasse strassen street/road; m see seen lake; m berg berge mountain
        m park parks park; m markt maerkte market; m pass paesse mountain_pass; f insel inseln island
        m hof hoefe yard/courtyard; n feld felder field""",
    "idea": """
        f frage fragen question; n problem probleme problem; m plan plaene plan/scheme
        f aufgabe aufgaben task/duty; f idee ideen idea; f regel regeln rule; m traum traeume dream
        m zug zuege move; f steuer steuern tax; m ton toene tone; f loesung loesungen solution
        f note noten grade/mark""",
    "event": """
        n fest feste celebration/feast; n spiel spiele game/match; f reise reisen journey/trip
        f hochzeit hochzeiten wedding; m ball baelle dance; n konzert konzerte concert
        m sturm stuerme storm; f sitzung sitzungen meeting/session; m krieg kriege war
        f pruefung pruefungen exam/test""",
    "body": """
        f hand haende hand; n auge augen eye; m kopf koepfe head; n bein beine leg; f feder federn feather
        m fluegel fluegel wing; m kiefer kiefer jaw; n ohr ohren ear; m arm arme arm
        f wunde wunden wound/injury""",
}

# subjects objects infinitive third participle translations; `vor|lesen` is separable, `*` marks the auxiliary
# sein.
VERBS = {
    "transitive": """
        person+animal any sehen sieht gesehen see/spot; person text lesen liest gelesen read
        who any finden findet gefunden find/discover
        who thing+food+text+building kaufen kauft gekauft buy/purchase
        person+animal food essen isst gegessen eat; person clothes tragen traegt getragen wear
        person tool+furniture+plant tragen traegt getragen carry
        person any suchen sucht gesucht look_for/seek; person text schreiben schreibt geschrieben write
        person clothes an|ziehen zieht gezogen put_on
        place+event+building person an|ziehen zieht gezogen attract
        person+animal person+animal lieben liebt geliebt love/adore
        who building+vehicle+furniture bauen baut gebaut build/construct
        person tool+clothes+food auf|heben hebt gehoben pick_up/lift
        who idea+text auf|heben hebt gehoben cancel/abolish
        person person+animal fuehren fuehrt gefuehrt lead/guide
        person institution+event fuehren fuehrt gefuehrt run/manage
        who person ein|laden laedt geladen invite; person tool+furniture ein|laden laedt geladen load
        person place+building+person besuchen besucht besucht visit
        person event+institution besuchen besucht besucht attend
        who thing+food+building verkaufen verkauft verkauft sell
        person building auf|machen macht gemacht open; person idea auf|geben gibt gegeben give_up/abandon
        person text auf|geben gibt gegeben mail/post; who text+food erhalten erhaelt erhalten receive/get
        who building+place+plant erhalten erhaelt erhalten preserve
        person tool+vehicle+furniture reparieren repariert repariert repair/fix
        person vehicle fahren faehrt gefahren drive
        person+animal place+building+institution verlassen verlaesst verlassen leave
        person person verlassen verlaesst verlassen desert
        person idea+text verstehen versteht verstanden understand/grasp
        person idea loesen loest geloest solve; person tool loesen loest geloest loosen/detach
        person idea stellen stellt gestellt raise/pose
        person tool+furniture+plant stellen stellt gestellt place
        person animal halten haelt gehalten keep; person vehicle halten haelt gehalten stop/halt
        person animal+person fangen faengt gefangen catch/capture
        person food+plant schneiden schneidet geschnitten cut
        who person+animal retten rettet gerettet save/rescue
        person tool+vehicle+clothes+text stehlen stiehlt gestohlen steal
        person+animal thing+event verlieren verliert verloren lose
        person person vor|stellen stellt gestellt introduce; who idea vor|stellen stellt gestellt present
        who event+idea ab|lehnen lehnt gelehnt reject/decline
        person animal fuettern fuettert gefuettert feed
        person clothes+vehicle waschen waescht gewaschen wash/clean
        who institution+place gruenden gruendet gegruendet found/establish
        person person+place+building+plant+animal malen malt gemalt draw/portray
        who event organisieren organisiert organisiert organise/arrange
        who event ab|sagen sagt gesagt call_off; person+animal body beruehren beruehrt beruehrt touch
        person body heilen heilt geheilt heal/cure
        who text+vehicle+tool pruefen prueft geprueft check/inspect
        person person pruefen prueft geprueft examine
        who building+vehicle+text zerstoeren zerstoert zerstoert destroy/ruin
        who event+idea verbieten verbietet verboten ban/forbid
        person plant+food pflanzen pflanzt gepflanzt plant""",
    "intransitive": """
        person arbeiten arbeitet gearbeitet work; person+animal schlafen schlaeft geschlafen sleep
        person+vehicle an|kommen* kommt gekommen arrive; person+animal laufen* laeuft gelaufen run
        tool+vehicle laufen* laeuft gelaufen function; person lachen lacht gelacht laugh
        person+animal warten wartet gewartet wait; person+animal spielen spielt gespielt play
        person+animal singen singt gesungen sing; event beginnen beginnt begonnen begin/start
        person auf|stehen* steht gestanden get_up/stand_up
        vehicle ab|fahren* faehrt gefahren depart/leave; person tanzen tanzt getanzt dance
        plant bluehen blueht geblueht bloom/flower
        person+animal ein|schlafen* schlaeft geschlafen fall_asleep
        building+plant brennen brennt gebrannt burn; event statt|finden findet gefunden take_place/happen
        plant+institution+animal wachsen* waechst gewachsen grow
        person+animal sterben* stirbt gestorben die/perish
        tool+plant+furniture fallen* faellt gefallen fall; event auf|hoeren hoert gehoert end/stop
        person+animal weinen weint geweint cry/weep""",
    "ditransitive": """
        person thing+food+text+plant geben gibt gegeben give/hand
        person thing+text+building+animal zeigen zeigt gezeigt show
        who text+thing+food schicken schickt geschickt send/mail
        person text erzaehlen erzaehlt erzaehlt tell; who thing+vehicle leihen leiht geliehen lend/loan
        person thing+plant+food schenken schenkt geschenkt donate/offer""",
    "complement": """
        who sagen sagt gesagt say/claim; person glauben glaubt geglaubt believe/think
        person wissen weiss gewusst know; person hoffen hofft gehofft hope
        person hoeren hoert gehoert hear""",
    "control": """
        who versuchen versucht versucht try/attempt; person vergessen vergisst vergessen forget
        who beginnen beginnt begonnen begin/start; who planen plant geplant plan/intend
        person hoffen hofft gehofft hope""",
}

# source[:stem] domains translations
ADJECTIVES = """
    alt person+animal+thing+building+institution+text+plant+place old; alt food stale
    neu thing+building+institution+text+idea+event+place new/recent
    klein person+animal+thing+building+plant+place+body+event small/little; gross person tall
    gross animal+thing+building+plant+place+institution+event big/large; schoen any beautiful/lovely
    jung person+animal young; schwer thing heavy; schwer idea+text+event difficult/hard
    leicht thing+food light; leicht idea+text+event easy/simple
    teuer:teur thing+food+building expensive/costly; rot thing+food+plant+building red
    blau thing+building+body blue; muede person+animal tired/weary; scharf tool sharp
    scharf food spicy/hot; frisch food+plant fresh; reif food ripe; freundlich person+animal friendly/kind
    faul person lazy/idle; faul food rotten; klug person+animal clever/smart
    reich person+place+institution rich/wealthy; arm person poor; kurz text+event+idea short/brief
    krank person+animal+plant sick/ill; kaputt tool+vehicle broken; rostig tool+vehicle rusty
    elektrisch tool electric; wild animal+event wild/fierce; giftig animal+plant poisonous
    oeffentlich building+institution+place public; international institution international
    koeniglich building+person royal; hoelzern furniture wooden; bequem furniture+clothes comfortable/cosy
    warm clothes+food warm; geheim idea+text secret/hidden; gedruckt text printed
    bunt clothes+plant+furniture colourful; duftend plant fragrant
    dunkel:dunkl building+place dark/gloomy; bekannt person+place+text famous/well-known
    laut person+animal+event loud/noisy; schnell vehicle+animal fast/quick
    stark person+animal+body strong; kalt food+place cold; gefaehrlich animal+tool+event dangerous/risky
    verletzt body+animal injured/hurt; falsch idea+text wrong/false
    wichtig idea+text+event+institution important
"""

# source domains translations
PREPOSITIONS = """
    in building+place+institution in; neben furniture+building+vehicle+plant next_to/beside
    vor building+vehicle+plant in_front_of; vor event before; auf furniture on; auf event at
    hinter building+plant+vehicle behind; unter furniture+plant under/beneath
    mit person with/together_with; mit tool with/using; nach event after/following; bei event during
    bei institution at
"""

# source tense translations
ADVERBS = {
    "time": """
        heute any today; gestern past yesterday; morgen future tomorrow; jetzt present now
        gerade present right_now/at_the_moment; damals past back_then/at_that_time
        bald future soon/shortly; neulich past recently/the_other_day""",
    "frequency": """
        oft any often/frequently; immer any always; manchmal any sometimes/occasionally; nie any never
        selten any rarely/seldom""",
    "manner": """
        schnell any quickly/fast; langsam any slowly; leise any quietly/silently
        vorsichtig any carefully/cautiously; heimlich any secretly; froehlich any happily/cheerfully
        zufaellig any by_chance/accidentally""",
}

CONNECTIVES = """
    weil because/since/as; obwohl although/though/even_though; wenn when/if; bevor before
    nachdem after/once; waehrend while/whereas
"""

NAMES = "m peter; f anna; m karl; f maria; m hans; f eva; m otto; f lena; m paul; f clara; m fritz; f ida"
TOWNS = "berlin hamburg wien bern ulm kassel bremen graz"
