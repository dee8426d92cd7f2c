def make_table(s): return ""
def draw_figure(s,p): pass
